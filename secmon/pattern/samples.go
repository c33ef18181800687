package pattern

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"warder/secmon/event"
	"warder/secmon/pattern/sigma"
)

// Samples are what a rule's author says that it matches and does not match.
type Samples struct {
	Positive, Negative []Sample
}

// Sample is one stream of events, in the order in which they are observed.
type Sample struct {
	Name   string
	Events []event.Event
	pos    sigma.Pos
}

func (r *Rule) readSamples(n *sigma.Node) error {
	if n.Kind != sigma.MapNode {
		return r.Fault(n.Pos, "samples are positive and negative")
	}
	for i, key := range n.Keys {
		var into *[]Sample
		switch key.Text {
		case "positive":
			into = &r.Samples.Positive
		case "negative":
			into = &r.Samples.Negative
		default:
			return r.Fault(key.Pos, "samples are positive or negative")
		}
		for _, s := range n.List[i].List {
			name, events := s.Get("name"), s.Get("events")
			if name == nil || events == nil || events.Kind != sigma.ListNode || len(events.List) == 0 {
				return r.Fault(s.Pos, "a sample has a name and a list of events")
			}
			sample := Sample{Name: name.Text, pos: s.Pos}
			for _, e := range events.List {
				var err error
				if sample.Events, err = sampleEvents(sample.Events, e); err != nil {
					return r.Fault(e.Pos, "%v", err)
				}
			}
			*into = append(*into, sample)
		}
	}
	return nil
}

// sampleStart is the time of a sample's first event. Each other is a second
// after the one before it, unless it says otherwise.
var sampleStart = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// maxSample bounds how many events a sample has.
const maxSample = 10000

// sampleEvents appends an event in its JSON form, in which names may be put
// together by dots and what is left out has a default. Three names are not the
// event's: after is how long it comes after the one before it, times how often,
// and {n} in a text stands for the how manieth it is of these.
func sampleEvents(events []event.Event, n *sigma.Node) ([]event.Event, error) {
	if n.Kind != sigma.MapNode {
		return nil, fmt.Errorf("an event is a map of its fields")
	}
	times, after := 1, time.Second
	var err error
	if t := n.Get("times"); t != nil {
		if times, err = strconv.Atoi(t.Text); err != nil || times < 1 || times > maxSample {
			return nil, fmt.Errorf("times is a number of 1 to %d", maxSample)
		}
	}
	if t := n.Get("after"); t != nil {
		if after, err = time.ParseDuration(t.Text); err != nil || after < 0 {
			return nil, fmt.Errorf("after is a time, as 20ms or 3m")
		}
	}
	for i := range times {
		at := sampleStart
		if len(events) > 0 {
			at = time.Unix(0, events[len(events)-1].Time).Add(after)
		}
		e, err := sampleEvent(n, at, i)
		if err != nil {
			return nil, err
		}
		e.Seq = uint64(len(events) + 1)
		if events = append(events, e); len(events) > maxSample {
			return nil, fmt.Errorf("a sample has at most %d events", maxSample)
		}
	}
	return events, nil
}

func sampleEvent(n *sigma.Node, at time.Time, i int) (e event.Event, err error) {
	line := map[string]any{"@timestamp": at}
	for j, k := range n.Keys {
		if k.Text == "times" || k.Text == "after" {
			continue
		}
		into := line
		path := strings.Split(k.Text, ".")
		for _, name := range path[:len(path)-1] {
			next, ok := into[name].(map[string]any)
			if !ok {
				next = make(map[string]any)
				into[name] = next
			}
			into = next
		}
		v := n.List[j].Value()
		if s, ok := v.(string); ok {
			v = strings.ReplaceAll(s, "{n}", strconv.Itoa(i))
		}
		into[path[len(path)-1]] = v
	}
	text, err := json.Marshal(line)
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	return e, err
}

// Failure is a sample on which a rule does not do what its author says.
type Failure struct {
	Rule   *Rule
	Sample *Sample
	// Alerts are how many alerts there were: none on a positive sample, some on
	// a negative one.
	Alerts int
}

func (f *Failure) Error() string {
	what := "does not alert"
	if f.Alerts > 0 {
		what = "alerts"
	}
	return f.Rule.Fault(f.Sample.pos, "%q %s on the sample %q", f.Rule.Title, what, f.Sample.Name).Error()
}

// Test observes every sample of every rule with the whole library, and gives
// those that came out wrong. samples is how many there are.
func (l *Library) Test() (samples int, failures []*Failure, err error) {
	for _, r := range l.Rules {
		for _, set := range [...]struct {
			samples  []Sample
			positive bool
		}{{r.Samples.Positive, true}, {r.Samples.Negative, false}} {
			for i := range set.samples {
				s := &set.samples[i]
				samples++
				n, err := l.alerts(r, s)
				if err != nil {
					return samples, failures, err
				}
				if (n > 0) != set.positive {
					failures = append(failures, &Failure{r, s, n})
				}
			}
		}
	}
	return samples, failures, nil
}

// alerts is how often a rule alerts on a sample.
func (l *Library) alerts(r *Rule, s *Sample) (n int, err error) {
	e, err := New(l, DefaultLimits)
	if err != nil {
		return 0, err
	}
	var alerts []event.Event
	for i := range s.Events {
		_, more := e.Observe(&s.Events[i])
		alerts = append(alerts, more...)
	}
	// The timespans of rules that look at their end are over then.
	alerts = append(alerts, e.Flush()...)
	alerts = append(alerts, e.Advance(s.Events[len(s.Events)-1].Time+int64(2*366*24*time.Hour))...)
	for _, a := range alerts {
		if a.Finding.RuleID == r.Key() {
			n++
		}
	}
	return n, nil
}
