package pattern

import (
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
)

// Verdict is what becomes of the act that an event reports.
type Verdict struct {
	// Errno is the error that the call is to fail with, 0 to let it pass.
	Errno unix.Errno
}

// Pass lets the act take place.
var Pass = Verdict{}

// Needs is what the loaded rules have to see.
type Needs struct {
	// Syscalls are the names of the system calls, sorted.
	Syscalls []string
	// Payload is how many bytes of what a call writes to a share are looked at.
	Payload int
}

// maxPayload is how much of one write rules look at. A part that is longer has
// an unknown rest, and nothing matches across that.
const maxPayload = 64 << 10

// Stats count what the engine did.
type Stats struct {
	Events         uint64 // observed
	Parts          uint64 // contributions stored
	Triggers       uint64 // acts that could have completed a pattern
	Undecided      uint64 // triggers whose object could not be told
	Alerts         uint64
	Repeated       uint64 // matches that had been reported before
	EvictedObjects uint64 // to keep within the limits: each may hide a match
	EvictedParts   uint64
}

// Engine evaluates rules over the events of all VMs. It is safe for concurrent
// use.
type Engine struct {
	rules    []*Rule
	parts    map[string]bool // system calls that some rule takes parts from
	triggers map[string][]int
	span     time.Duration // the longest of any rule

	mu    sync.Mutex
	store *store
	stats Stats
}

// nameCalls are those that can give a name to a new file; they are needed to
// tell it from the one that had the name before.
var nameCalls = []string{"openat"}

// New makes an engine for rules, within limits.
func New(rules []*Rule, limits Limits) (*Engine, error) {
	if len(rules) == 0 {
		return nil, errors.New("pattern: no rules")
	}
	e := &Engine{rules: rules, parts: make(map[string]bool), triggers: make(map[string][]int), store: newStore(limits)}
	for i, r := range rules {
		for _, call := range r.Splice.Parts {
			e.parts[call] = true
		}
		for _, call := range r.Splice.Triggers {
			e.triggers[call] = append(e.triggers[call], i)
		}
		e.span = max(e.span, r.Splice.Timespan)
	}
	return e, nil
}

// Needs tells which system calls have to be reported for the rules to work.
func (e *Engine) Needs() Needs {
	calls := slices.Clone(nameCalls)
	for call := range e.parts {
		calls = append(calls, call)
	}
	for call := range e.triggers {
		calls = append(calls, call)
	}
	slices.Sort(calls)
	return Needs{Syscalls: slices.Compact(calls), Payload: maxPayload}
}

// Observe takes one event, before the act takes place that it reports, and
// says what becomes of the act. Alerts are events themselves.
//
// Parts are ordered by the time of their events, in whatever order they are
// observed; a trigger is decided on what has been observed before it.
func (e *Engine) Observe(ev event.Event) (Verdict, []event.Event) {
	t := e.take(ev)
	if t == nil {
		return Pass, nil
	}
	// A guest can make this take long, but only for itself: nobody else's act
	// waits for it.
	findings := make(map[int]*event.Finding)
	for _, i := range t.rules {
		if f := e.rules[i].evaluate(t.parts, ev); f != nil {
			findings[i] = f
		}
	}
	return e.conclude(t, ev, findings)
}

// trigger is an act that could complete a pattern, and its object as it was
// when the act was observed.
type trigger struct {
	rules   []int
	object  *object
	version uint64
	parts   []part
}

// take stores what an event contributes. It gives nil unless the act could
// complete a pattern.
func (e *Engine) take(ev event.Event) *trigger {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stats.Events++
	if ev.Kind != event.Syscall {
		return nil
	}
	c := &ev.Call
	if slices.Contains(nameCalls, c.Name) && c.Flags&unix.O_CREAT != 0 && c.File.Absent {
		e.store.unname(c.File)
	}
	if rules := e.triggers[c.Name]; rules != nil && !(c.Name == "openat" && c.Flags&unix.O_ACCMODE == unix.O_WRONLY) {
		return e.trigger(ev, rules)
	}
	if e.parts[c.Name] && c.File.Share != "" && c.Size > 0 && c.Flags&unix.O_ACCMODE != unix.O_RDONLY {
		o := e.store.add(c.File)
		e.store.expire(o, ev.Time-int64(e.span))
		e.store.contribute(o, ev)
		e.stats.Parts++
	}
	return nil
}

// trigger finds what an act that rules watch for is done to.
func (e *Engine) trigger(ev event.Event, rules []int) *trigger {
	e.stats.Triggers++
	if ev.Call.Missing&(event.MissingPath|event.MissingFile) != 0 {
		e.stats.Undecided++
		return nil
	}
	if ev.Call.File.Share == "" {
		return nil
	}
	o := e.store.find(ev.Call.File)
	if o == nil {
		return nil
	}
	e.store.expire(o, ev.Time-int64(e.span))
	return &trigger{rules, o, o.version, slices.Clone(o.parts)}
}

// conclude says what becomes of an act in which rules found something, and
// tells of what has not been told before.
func (e *Engine) conclude(t *trigger, ev event.Event, findings map[int]*event.Finding) (Verdict, []event.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	verdict := Pass
	var alerts []event.Event
	for _, i := range t.rules {
		finding := findings[i]
		if finding == nil {
			continue
		}
		if e.rules[i].Response == Block {
			verdict = Verdict{Errno: unix.EPERM}
		}
		key := alertKey{i, ev.VM}
		if t.object.alerted[key] == t.version {
			e.stats.Repeated++
			continue
		}
		if t.object.alerted == nil {
			t.object.alerted = make(map[alertKey]uint64)
		}
		t.object.alerted[key] = t.version
		e.stats.Alerts++
		alerts = append(alerts, event.Event{
			Time: ev.Time, Kind: event.Alert, VM: ev.VM, VCPU: ev.VCPU,
			Message: e.rules[i].Title, Finding: finding,
		})
	}
	// The verdict is that of all rules together.
	for _, a := range alerts {
		a.Finding.Acts[len(a.Finding.Acts)-1].Call.Denied = uint16(verdict.Errno)
	}
	return verdict, alerts
}

// evaluate matches one rule on the parts of an object that an act has been
// done to.
func (r *Rule) evaluate(all []part, ev event.Event) *event.Finding {
	s := &r.Splice
	var parts []part
	for _, p := range all {
		age := ev.Time - p.event.Time
		if age >= 0 && age <= int64(s.Timespan) && slices.Contains(s.Parts, p.event.Call.Name) {
			parts = append(parts, p)
		}
	}
	if len(parts) < s.VMs {
		return nil
	}
	m := s.find(parts, ev.Call.File.Size, ev.Call.Payload)
	if m == nil {
		return nil
	}
	vms := m.vms(parts)
	if len(vms) < s.VMs || s.Other && slices.Contains(vms, ev.VM) {
		return nil
	}
	if !slices.Contains(vms, ev.VM) {
		vms = append(vms, ev.VM)
	}
	ev.Call.Payload = nil
	return &event.Finding{
		RuleID: r.ID, RuleTitle: r.Title, Level: r.Level, VMs: vms,
		Acts: append(m.acts(parts), ev), Matched: m.texts, Response: r.Response.String(),
	}
}

// Stats gives the counts so far.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	s.EvictedObjects, s.EvictedParts = e.store.evictedObjects, e.store.evictedParts
	return s
}
