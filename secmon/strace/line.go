package strace

import (
	"fmt"
	"strings"

	"warder/secmon/event"
	"warder/secmon/syscalls"
)

// resultColumn is where strace puts the results of short calls.
const resultColumn = 40

// Line writes a call as strace does: of strings at most limit bytes, the thread
// in front of it if there can be more than one.
func Line(e *event.Event, limit int, thread bool) string {
	if e.Kind == event.Loss {
		return fmt.Sprintf("--- %d calls came too fast and are missing here ---", e.Lost)
	}
	c := &e.Call
	s := c.Name + "(" + strings.Join(syscalls.Args(c, limit), ", ") + ")"
	if thread {
		s = fmt.Sprintf("[pid %5d] %s", e.Process.TID, s)
	}
	result := syscalls.Result(c)
	if result == "" {
		result = "?"
	}
	if pad := resultColumn - 1 - len(s); pad > 0 {
		s += strings.Repeat(" ", pad)
	}
	return s + " = " + result
}

// Ended is what strace writes when a process has ended by exit_group, "" for
// another call.
func Ended(e *event.Event, thread bool) string {
	if e.Call.Name != "exit_group" {
		return ""
	}
	s := fmt.Sprintf("+++ exited with %d +++", e.Call.Args[0]&0xff)
	if thread {
		s = fmt.Sprintf("[pid %5d] %s", e.Process.TID, s)
	}
	return s
}
