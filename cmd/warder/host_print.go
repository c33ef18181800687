package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"warder/secmon/event"
	"warder/secmon/watch"
)

// printer writes what happens on the host, for a person or as lines of JSON.
// Nothing that a guest chose reaches a terminal unquoted.
type printer struct {
	w       io.Writer
	json    bool
	verbose bool
	colour  bool

	mu     sync.Mutex
	alerts []event.Event // the first that came, at most maxKept
}

const maxKept = 64

func (p *printer) paint(colour, s string) string { return paint(p.colour, colour, s) }

func (p *printer) write(s string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	io.WriteString(p.w, s)
}

func (p *printer) line(e event.Event) {
	b, err := json.Marshal(e)
	if err != nil {
		return // of a kind that we do not make
	}
	p.write(string(b) + "\n")
}

// note says something of warder's own about a VM.
func (p *printer) note(vm, text string) {
	if p.json {
		p.line(event.Event{Time: time.Now().UnixNano(), Kind: event.Lifecycle, VM: vm, Message: text})
		return
	}
	if vm == "" {
		vm = "warder"
	}
	p.write(fmt.Sprintf("%s %s\n", p.paint(bold, vm+":"), printable(text)))
}

// say prints a line of the demonstration.
func (p *printer) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if p.json {
		p.note("", text)
		return
	}
	p.write(p.paint(bold, text) + "\n")
}

// event prints an event that matters: on a share, refused, lost, or any if
// that was asked for.
func (p *printer) event(e event.Event) {
	c := &e.Call
	matters := true
	switch e.Kind {
	case event.Syscall:
		matters = c.Denied != 0 || c.File.Share != "" && c.Name != "openat"
	case event.FileAct:
		matters = e.Action != event.ShareRead
	case event.Flow, event.Packet: // what VMs are there for
		matters = false
	}
	switch {
	case !matters && !p.verbose:
	case p.json:
		p.line(e)
	case e.Kind == event.Anomaly:
		p.note(e.VM, e.Action+": "+e.Message)
	case e.Net == nil && e.Kind != event.Syscall && e.Message != "":
		p.note(e.VM, e.Message)
	case e.Kind == event.Loss:
		p.note(e.VM, fmt.Sprintf("%d events lost: they came faster than they could be printed", e.Lost))
	default:
		p.write(p.paint(dim, "  "+act(e)) + "\n")
	}
}

// alert prints an alert and keeps it.
func (p *printer) alert(e event.Event) {
	p.mu.Lock()
	if e.Kind == event.Alert && len(p.alerts) < maxKept {
		p.alerts = append(p.alerts, e)
	}
	p.mu.Unlock()
	f := e.Finding
	if p.json || f == nil {
		p.event(e)
		return
	}
	bar := p.paint(red, "┃ ")
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n", p.paint(red, "┏━ ALERT, "+f.Level+": "+f.RuleTitle))
	fmt.Fprintf(&b, "%spattern   %s\n", bar, f.RuleID)
	fmt.Fprintf(&b, "%sVMs       %s\n", bar, p.paint(bold, strings.Join(f.VMs, ", ")))
	for i, a := range f.Acts {
		label := "acts"
		if i > 0 {
			label = ""
		}
		fmt.Fprintf(&b, "%s%-8s%s\n", bar, label, "  "+act(a))
	}
	for _, m := range f.Matched {
		fmt.Fprintf(&b, "%stogether  %s\n", bar, m)
	}
	done := responses(f)
	for _, r := range done[:len(done)-1] {
		fmt.Fprintf(&b, "%sresponse  %s\n", bar, r)
	}
	fmt.Fprintf(&b, "%s\n\n", p.paint(red, "┗━ response: "+done[len(done)-1]))
	p.write(b.String())
}

// found gives the first alerts.
func (p *printer) found() []event.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.alerts)
}

func (p *printer) summary(s watch.Stats) {
	if p.json {
		return
	}
	e := s.Engine
	p.write(fmt.Sprintf("%s %s, %s to shares kept, %s checked, %s\n", p.paint(bold, "summary:"),
		count(e.Events, "event"), count(e.Splice.Parts, "write"), count(e.Splice.Triggers, "execution"), count(e.Alerts, "alert")))
	if e.Splice.EvictedParts+e.Splice.EvictedObjects+e.Splice.Undecided+e.Correlate.Evicted+e.Correlate.Dropped+s.LostEvents+s.LostAlerts > 0 {
		p.write(p.paint(yellow, fmt.Sprintf("         not seen whole: %d parts and %d files pushed out, %d executions of unknown files, %d sequences given up, %d events and %d alerts not printed\n",
			e.Splice.EvictedParts, e.Splice.EvictedObjects, e.Splice.Undecided, e.Correlate.Evicted+e.Correlate.Dropped, s.LostEvents, s.LostAlerts)))
	}
}

func count(n uint64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprint(n, " ", what)
}

// maxOutputLine bounds what is held back of a line that a guest does not end.
const maxOutputLine = 4096

// lines prints a VM's output line by line, each with its name.
func (p *printer) lines(vm string) *lineWriter { return &lineWriter{p: p, vm: vm} }

type lineWriter struct {
	p  *printer
	vm string

	mu  sync.Mutex
	buf []byte
}

func (l *lineWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, b...)
	for {
		i := bytes.IndexByte(l.buf, '\n')
		switch {
		case i >= 0:
			l.print(l.buf[:i])
			l.buf = l.buf[i+1:]
		case len(l.buf) > maxOutputLine:
			l.print(l.buf[:maxOutputLine])
			l.buf = l.buf[maxOutputLine:]
		default:
			return len(b), nil
		}
	}
}

// Close prints what is left of a last line.
func (l *lineWriter) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.buf) > 0 {
		l.print(l.buf)
		l.buf = nil
	}
	return nil
}

func (l *lineWriter) print(text []byte) {
	if l.p.json {
		l.p.note(l.vm, "output: "+string(text))
		return
	}
	l.p.write(fmt.Sprintf("%s %s\n", l.p.paint(bold, l.vm+" |"), printable(string(text))))
}

// printable replaces what could steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || strconv.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
