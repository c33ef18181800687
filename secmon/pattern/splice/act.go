package splice

import (
	"strings"

	"warder/secmon/event"
)

// message is before the name of a message of a flow, so that it is no system call's.
const message = "message "

// share is before the name of what is done to a file on a share, as its server sees it.
const share = "share "

// shareActs are what can be done to a file on a share, by the words of rules.
var shareActs = map[string]string{event.ShareRead: share + "read", event.ShareWrite: share + "write", event.ShareCreate: share + "create"}

// act names what an event reports: a system call, a message of a flow, or what is done
// to a file on a share; "" for what has no part in a splice.
func act(e *event.Event) string {
	switch e.Kind {
	case event.FileAct:
		return shareActs[e.Action]
	case event.Syscall:
		return e.Call.Name
	case event.Packet:
		return message + e.Action
	}
	return ""
}

// IsShare says whether one of a splice's Parts and Triggers is what the server of a
// share sees.
func IsShare(act string) bool { return strings.HasPrefix(act, share) }

// IsMessage says whether one of a splice's Parts and Triggers is a message.
func IsMessage(act string) bool { return strings.HasPrefix(act, message) }
