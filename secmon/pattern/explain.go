package pattern

import (
	"fmt"
	"slices"

	"warder/secmon/event"
	"warder/secmon/pattern/detect"
	"warder/secmon/pattern/record"
	"warder/secmon/pattern/splice"
)

// Explanation says what a rule made of a stream of events.
type Explanation struct {
	Rule   *Rule
	Alerts int
	// Matches is how many events a detection matched.
	Matches int
	// Lines say, where there was no alert, how far it got and why it stopped.
	Lines []string
}

// Near says whether there was anything that the rule could have matched.
func (x *Explanation) Near() bool { return len(x.Lines) > 0 && x.Lines[0] != nothing }

// nothing is what there is to say where no event was of a rule's log source.
const nothing = "no event of its log source"

// Explain observes a stream of events and says for each rule how far it got.
func (l *Library) Explain(events []event.Event, limits Limits) ([]Explanation, error) {
	e, err := New(l, limits)
	if err != nil {
		return nil, err
	}
	e.inOrder.Trace()
	e.atOnce.Trace()
	out := make([]Explanation, len(l.Rules))
	near := make([]nearest, len(l.Rules))
	byKey := make(map[string]int)
	for i, r := range l.Rules {
		out[i].Rule = r
		byKey[r.Key()] = i
	}
	var buf []detect.Match
	var alerts []event.Event
	for i := range events {
		buf = l.program.Match(&events[i], buf[:0])
		for _, m := range buf {
			out[l.detections[m.Rule].rule].Matches++
		}
		for j, r := range l.Rules {
			if r.Detection != nil && out[j].Matches == 0 {
				near[j].look(r, &events[i])
			}
		}
		_, more := e.Observe(&events[i])
		alerts = append(alerts, more...)
	}
	for _, a := range append(alerts, e.Flush()...) {
		out[byKey[a.Finding.RuleID]].Alerts++
	}
	furthest := e.inOrder.Furthest()
	for i, p := range e.atOnce.Furthest() {
		furthest[i] = p
	}
	for i, r := range l.Rules {
		x := &out[i]
		switch {
		case x.Alerts > 0:
		case r.Detection != nil && x.Matches == 0:
			x.Lines = near[i].lines()
		case r.Correlation != nil && r.Correlation.Type == splice.Type:
			x.Lines = e.splices.Explain()
		case r.Correlation != nil:
			p, ok := furthest[i]
			if !ok {
				x.Lines = []string{"none of its rules matched"}
				break
			}
			x.Lines = append(x.Lines, p.String())
			for _, a := range p.Acts {
				x.Lines = append(x.Lines, "  "+brief(a))
			}
			for _, pos := range p.Missing {
				x.Lines = append(x.Lines, "  missing: "+r.Correlation.Rules[pos])
			}
		}
	}
	return out, nil
}

// brief is an event in a few words.
func brief(e *event.Event) string {
	what := e.Action
	if e.Kind == event.Syscall {
		what = e.Call.Name
	}
	for _, s := range []string{event.CommandLine(e.Process.Args), e.Process.Exe, e.Call.File.Path, e.Call.Path} {
		if s != "" {
			what += " " + s
			break
		}
	}
	if e.VM == "" {
		return fmt.Sprintf("%q of the host", what)
	}
	return fmt.Sprintf("%q in %s", what, e.VM)
}

// nearest is the event that came nearest to a rule.
type nearest struct {
	held, total int
	event       *event.Event
	failed      string
}

// look counts how many of a rule's tests hold for an event.
func (n *nearest) look(r *Rule, e *event.Event) {
	from, _ := record.Select(r.Source)
	for _, rec := range record.Of(e, nil) {
		if !slices.Contains(from.Kinds, rec.Kind) || !from.Has(rec) {
			continue
		}
		held, total, failed := detect.Held(r.Detection.Expr, rec)
		if n.event == nil || held*n.total > n.held*total {
			*n = nearest{held, total, e, failed}
		}
	}
}

func (n *nearest) lines() []string {
	if n.event == nil {
		return []string{nothing}
	}
	return []string{
		fmt.Sprintf("nearest: %s, for which %d of %d tests hold", brief(n.event), n.held, n.total),
		"  but not " + n.failed,
	}
}
