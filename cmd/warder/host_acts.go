package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/pattern"
)

// maxShown is how much of a payload a line shows.
const maxShown = 60

// act is one line about something that was done.
func act(e event.Event) string {
	when := fmt.Sprintf("%s  %-8s ", time.Unix(0, e.Time).Format("15:04:05.000"), e.VM)
	if e.Kind != event.Syscall {
		return when + otherAct(&e)
	}
	c := &e.Call
	var b strings.Builder
	fmt.Fprintf(&b, "%s%-9s", when, c.Name)
	switch {
	case c.File.Path != "":
		b.WriteString(shown(c.File.Path))
	case c.Path != "":
		b.WriteString(shown(c.Path))
	case c.FD >= 0:
		fmt.Fprintf(&b, "fd %d", c.FD)
	}
	if c.Size > 0 {
		text := c.Payload[:min(len(c.Payload), maxShown)]
		fmt.Fprintf(&b, "  %s", strconv.Quote(string(text)))
		if uint64(len(text)) < c.Size && len(text) == maxShown {
			b.WriteString("...")
		}
	}
	if c.Missing&event.MissingProcess == 0 {
		fmt.Fprintf(&b, "  (%s, pid %d, uid %d)", shown(e.Process.Name), e.Process.PID, e.Process.UID)
	}
	if c.Missing != 0 {
		fmt.Fprintf(&b, "  not readable: %s", strings.Join(c.Missing.Names(), ", "))
	}
	if c.Denied != 0 {
		fmt.Fprintf(&b, "  refused: %s", unix.ErrnoName(unix.Errno(c.Denied)))
	}
	return b.String()
}

// shown is a guest's string, quoted where it is not plain.
func shown(s string) string {
	q := strconv.Quote(s)
	if q == `"`+s+`"` && !strings.Contains(s, " ") {
		return s
	}
	return q
}

// otherAct says what an event is about that is no system call.
func otherAct(e *event.Event) string {
	what := []string{strings.TrimSpace(e.Kind.String() + " " + e.Action)}
	add := func(s string) {
		if s != "" {
			what = append(what, shown(s))
		}
	}
	if n := e.Net; n != nil {
		if n.Source.IsValid() || n.Destination.IsValid() {
			what = append(what, fmt.Sprintf("%s -> %s", n.Source, n.Destination))
		}
		if n.Transport == event.Vsock {
			what = append(what, fmt.Sprintf("vsock %v -> %v", n.Vsock[0], n.Vsock[1]))
		}
		add(n.Host)
		if n.DNS != nil {
			add(n.DNS.Name)
		}
		if n.HTTP != nil {
			add(n.HTTP.Method + " " + n.HTTP.Host + n.HTTP.Path)
		}
		if len(n.Payload) > 0 {
			what = append(what, strconv.Quote(string(n.Payload[:min(len(n.Payload), maxShown)])))
		}
	}
	add(e.Process.Exe)
	add(event.CommandLine(e.Process.Args))
	add(e.Call.File.Path)
	if c := &e.Call; e.Kind == event.FileAct && c.Size > 0 {
		what = append(what, fmt.Sprintf("%d bytes at %d", c.Size, c.Offset))
		if text := c.Payload[:min(len(c.Payload), maxShown)]; len(text) > 0 && e.Action == event.ShareWrite {
			what = append(what, strconv.Quote(string(text)))
		}
	}
	if e.Log != nil {
		add(e.Log.Program)
		add(e.Log.Text)
	}
	add(e.Message)
	switch {
	case e.Process.PID != 0 && e.Process.Name == "": // as the server of a share knows it
		what = append(what, fmt.Sprintf("(pid %d, uid %d)", e.Process.PID, e.Process.UID))
	case e.Process.PID != 0:
		what = append(what, fmt.Sprintf("(%s, pid %d, uid %d)", shown(e.Process.Name), e.Process.PID, e.Process.UID))
	}
	return strings.Join(what, "  ")
}

// responses says what was done about an alert.
func responses(f *event.Finding) []string {
	var out []string
	var last event.Event
	if n := len(f.Acts); n > 0 {
		last = f.Acts[n-1]
	}
	if last.Call.Denied == 0 {
		out = append(out, "recorded; the act was let through")
	}
	for _, t := range f.Taken {
		switch {
		case t.Response == string(pattern.Block) && last.Call.Denied != 0 && last.Kind == event.FileAct:
			out = append(out, fmt.Sprintf("%s's %s was refused with %s before it took effect", last.VM, last.Action, unix.ErrnoName(unix.Errno(last.Call.Denied))))
		case t.Response == string(pattern.Block) && last.Call.Denied != 0 && last.Kind != event.Syscall:
			out = append(out, fmt.Sprintf("%s's message was not delivered, and its flow is cut", last.VM))
		case t.Response == string(pattern.Block) && last.Call.Denied != 0:
			out = append(out, fmt.Sprintf("%s's %s was refused with %s before it took effect", last.VM, last.Call.Name, unix.ErrnoName(unix.Errno(last.Call.Denied))))
		case t.Failed != "":
			out = append(out, fmt.Sprintf("%s of %s FAILED: %s", t.Response, t.VM, printable(t.Failed)))
		case t.Detail != "":
			out = append(out, fmt.Sprintf("%s of %s: %s", t.Response, t.VM, printable(t.Detail)))
		default:
			out = append(out, fmt.Sprintf("%s of %s", t.Response, t.VM))
		}
	}
	if len(out) == 0 {
		out = append(out, "recorded; the act was refused for another pattern")
	}
	return out
}
