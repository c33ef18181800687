package splice

import (
	"strings"

	"warder/secmon/event"
)

// message is before the name of a message of a flow, so that it is no system call's.
const message = "message "

// act names what an event reports: a system call, or a message of a flow; "" for what
// has no part in a splice.
func act(e *event.Event) string {
	switch e.Kind {
	case event.Syscall:
		return e.Call.Name
	case event.Packet:
		return message + e.Action
	}
	return ""
}

// IsMessage says whether one of a splice's Parts and Triggers is a message.
func IsMessage(act string) bool { return strings.HasPrefix(act, message) }
