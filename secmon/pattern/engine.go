package pattern

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/pattern/correlate"
	"warder/secmon/pattern/detect"
	"warder/secmon/pattern/sigma"
	"warder/secmon/pattern/splice"
)

// Verdict is what becomes of the act that an event reports.
type Verdict struct {
	// Errno is the error that the call is to fail with, 0 to let it pass.
	Errno unix.Errno
	// Pause has the VM stop where it is.
	Pause bool
}

// Pass lets the act take place.
var Pass = Verdict{}

// Limits bound the engine's memory.
type Limits struct {
	Splice    splice.Limits
	Correlate correlate.Limits
	// Throttled is how many rules and sets of VMs may be throttled at a time;
	// beyond it the oldest alerts again.
	Throttled int
}

// DefaultLimits suit a host of a few hundred VMs.
var DefaultLimits = Limits{Splice: splice.DefaultLimits, Correlate: correlate.DefaultLimits, Throttled: 65536}

// Stats count what the engine did.
type Stats struct {
	Events    uint64 // observed
	Matches   uint64 // of detection rules
	Alerts    uint64
	Throttled uint64 // matches that were only counted
	Excepted  uint64 // matches that filters kept quiet
	Splice    splice.Stats
	Correlate correlate.Stats
}

// Engine evaluates a library over the events of all VMs. It is safe for
// concurrent use.
//
// A rule that blocks or pauses is decided at once, on what has been observed
// before. What other correlations find is in the order of event time, and waits
// for the lateness window: [Engine.Advance] has it come out.
type Engine struct {
	limits  Limits
	library atomic.Pointer[Library]
	splices *splice.Engine
	events  atomic.Uint64
	buffers sync.Pool     // of *[]detect.Match
	waiting chan struct{} // holds a token when Next may have changed

	mu       sync.Mutex
	atOnce   *correlate.Correlator // rules that decide at once
	inOrder  *correlate.Correlator // all others
	throttle throttle
	excepted map[*Rule]uint64 // since the rule's last alert
	stats    Stats
}

// New makes an engine for a library, within limits.
func New(l *Library, limits Limits) (*Engine, error) {
	e := &Engine{limits: limits, splices: splice.New(l.splices, limits.Splice), excepted: make(map[*Rule]uint64), waiting: make(chan struct{}, 1)}
	e.throttle.limit = max(limits.Throttled, 1)
	e.library.Store(l)
	var err error
	e.atOnce, e.inOrder, err = e.correlators(l)
	return e, err
}

// correlators makes both correlators for a library.
func (e *Engine) correlators(l *Library) (atOnce, inOrder *correlate.Correlator, err error) {
	// A rule that decides at once needs those that it refers to, which may also
	// be needed in order.
	urgent := make(map[*sigma.Rule]bool)
	for i := len(l.Rules) - 1; i >= 0; i-- { // each after those that it refers to
		r := l.Rules[i]
		if r.decidesAtOnce() || urgent[r.Rule] {
			urgent[r.Rule] = true
			for _, ref := range l.set.Refs[r.Rule] {
				urgent[ref] = true
			}
		}
	}
	limits := e.limits.Correlate
	inOrder, err = correlate.New(l.set, limits, func(i int) bool { return !l.Rules[i].decidesAtOnce() })
	if err != nil {
		return nil, nil, err
	}
	limits.Lateness = 0
	atOnce, err = correlate.New(l.set, limits, func(i int) bool { return urgent[l.Rules[i].Rule] })
	return atOnce, inOrder, err
}

// Library is what the engine evaluates now.
func (e *Engine) Library() *Library { return e.library.Load() }

// Reload has the engine evaluate another library from the next event on. What
// is under way for rules that are the same in both goes on.
func (e *Engine) Reload(l *Library) error {
	atOnce, inOrder, err := e.correlators(l)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	same := l.set.Same(e.library.Load().set)
	atOnce.Adopt(e.atOnce, same)
	inOrder.Adopt(e.inOrder, same)
	e.atOnce, e.inOrder = atOnce, inOrder
	e.splices.Reload(l.splices)
	clear(e.excepted)
	e.library.Store(l)
	return nil
}

// Observe takes one event, before the act takes place that it reports, and
// says what becomes of the act. Alerts are events themselves. The event is not
// kept; what it points to must not change.
func (e *Engine) Observe(ev *event.Event) (Verdict, []event.Event) {
	e.events.Add(1)
	buf, _ := e.buffers.Get().(*[]detect.Match)
	if buf == nil {
		buf = new([]detect.Match)
	}
	defer e.buffers.Put(buf)
	for {
		l := e.library.Load()
		*buf = l.program.Match(ev, (*buf)[:0])
		if len(*buf) == 0 {
			break
		}
		if v, alerts, ok := e.matched(l, ev, *buf); ok {
			return e.spliced(ev, v, alerts)
		}
		// The library was replaced meanwhile.
	}
	return e.spliced(ev, Pass, nil)
}

// matched does what an event's matches ask for. ok is false when l is not the
// library any more.
func (e *Engine) matched(l *Library, ev *event.Event, matches []detect.Match) (v Verdict, alerts []event.Event, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if l != e.library.Load() {
		return Pass, nil, false
	}
	var kept *event.Event // a copy that may be kept
	for _, m := range matches {
		d := l.detections[m.Rule]
		r := l.Rules[d.rule]
		if d.excepted {
			e.stats.Excepted++
			e.excepted[r]++
			continue
		}
		e.stats.Matches++
		if e.inOrder.Uses(d.rule) || e.atOnce.Uses(d.rule) {
			if kept == nil {
				kept = keep(ev)
			}
			for _, c := range []*correlate.Correlator{e.inOrder, e.atOnce} {
				if c.Uses(d.rule) {
					c.Add(correlate.Match{Rule: d.rule, Kind: m.Kind, Event: kept})
				}
			}
		}
		if l.set.Standalone[r.Rule] {
			v = v.and(r)
			alerts = e.alert(alerts, r, &event.Finding{VMs: []string{ev.VM}, Acts: []event.Event{*keep(ev)}}, ev.Time)
		}
	}
	if kept == nil {
		return v, alerts, true
	}
	for _, f := range e.atOnce.Advance(0) {
		if r := l.Rules[f.Rule]; r.decidesAtOnce() {
			v = v.and(r)
			alerts = e.found(l, alerts, &f)
		}
	}
	alerts = e.settle(l, alerts, 0)
	select {
	case e.waiting <- struct{}{}:
	default:
	}
	return v, alerts, true
}

// settle adds what correlations in order have found by now.
func (e *Engine) settle(l *Library, alerts []event.Event, now int64) []event.Event {
	for _, f := range e.inOrder.Advance(now) {
		alerts = e.found(l, alerts, &f)
	}
	return alerts
}

// spliced adds what an event does to splices.
func (e *Engine) spliced(ev *event.Event, v Verdict, alerts []event.Event) (Verdict, []event.Event) {
	found := e.splices.Observe(ev)
	if len(found) == 0 {
		return v, alerts
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, f := range found {
		r := e.library.Load().byRule(f.Rule.Rule)
		if r == nil {
			continue // replaced meanwhile
		}
		v = v.and(r)
		if !f.Repeated {
			alerts = e.alert(alerts, r, f.Finding, ev.Time)
		}
	}
	return v, alerts
}

// Advance gives the alerts that were only waiting for the time to be now, in
// nanoseconds since 1970.
func (e *Engine) Advance(now int64) []event.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.settle(e.library.Load(), nil, now)
}

// Flush gives the alerts of all that was observed, as if nothing came late.
func (e *Engine) Flush() []event.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.library.Load()
	var alerts []event.Event
	for _, f := range e.inOrder.Flush() {
		alerts = e.found(l, alerts, &f)
	}
	return alerts
}

// Next is when Advance has something to do at the latest; ok is false where
// there is nothing to wait for.
func (e *Engine) Next() (at int64, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.inOrder.Next()
}

// Run hands out the alerts that come with time alone, until ctx ends.
func (e *Engine) Run(ctx context.Context, alert func(event.Event)) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.waiting:
		case <-timer.C:
		}
		for _, a := range e.Advance(time.Now().UnixNano()) {
			alert(a)
		}
		if at, ok := e.Next(); ok {
			timer.Reset(time.Until(time.Unix(0, at)) + time.Nanosecond)
		}
	}
}

// and adds what a rule wants done about an act.
func (v Verdict) and(r *Rule) Verdict {
	if slices.Contains(r.Responses, Block) {
		v.Errno = unix.EPERM
	}
	v.Pause = v.Pause || slices.Contains(r.Responses, Pause)
	return v
}

// found adds the alert of a correlation.
func (e *Engine) found(l *Library, alerts []event.Event, f *correlate.Finding) []event.Event {
	r := l.Rules[f.Rule]
	if !l.set.Standalone[r.Rule] {
		return alerts
	}
	c := r.Correlation
	finding := &event.Finding{Matched: []string{describe(c, f)}}
	for _, a := range f.Acts {
		finding.Acts = append(finding.Acts, *a)
		if !slices.Contains(finding.VMs, a.VM) {
			finding.VMs = append(finding.VMs, a.VM)
		}
	}
	return e.alert(alerts, r, finding, f.Time)
}

// describe says what of a correlation held.
func describe(c *sigma.Correlation, f *correlate.Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v", c.Type, f.Count)
	for i, name := range c.GroupBy {
		fmt.Fprintf(&b, ", %s=%q", name, f.Group[i])
	}
	if len(f.Values) > 0 {
		fmt.Fprintf(&b, ", %q", f.Values)
	}
	return b.String()
}

// alert adds a rule's alert, unless the rule is throttled.
func (e *Engine) alert(alerts []event.Event, r *Rule, f *event.Finding, at int64) []event.Event {
	held := uint64(0)
	if r.Throttle > 0 {
		var now bool
		if held, now = e.throttle.alert(r.Key()+" "+strings.Join(f.VMs, " "), at, int64(r.Throttle)); !now {
			e.stats.Throttled++
			return alerts
		}
	}
	e.stats.Alerts++
	f.RuleID, f.RuleTitle, f.Level, f.Response = r.Key(), r.Title, r.Level, r.response()
	f.Count, f.Excepted = held+1, e.excepted[r]
	delete(e.excepted, r)
	last := &f.Acts[len(f.Acts)-1]
	if slices.Contains(r.Responses, Block) {
		last.Call.Denied = uint16(unix.EPERM)
	}
	return append(alerts, event.Event{
		Time: at, Kind: event.Alert, VM: last.VM, VCPU: last.VCPU, Message: r.Title, Finding: f,
	})
}

// maxPayload is how much of an act's payload an alert repeats.
const maxPayload = 1024

// keep copies an event for an alert or a correlation.
func keep(ev *event.Event) *event.Event {
	kept := *ev
	if len(kept.Call.Payload) > maxPayload {
		kept.Call.Payload = slices.Clone(kept.Call.Payload[:maxPayload])
	}
	return &kept
}

// Stats gives the counts so far.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	s.Events, s.Splice, s.Correlate = e.events.Load(), e.splices.Stats(), e.inOrder.Stats()
	urgent := e.atOnce.Stats()
	s.Correlate.Groups += urgent.Groups
	s.Correlate.Evicted += urgent.Evicted
	s.Correlate.Dropped += urgent.Dropped
	return s
}
