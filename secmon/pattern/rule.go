package pattern

import (
	"slices"
	"strings"
	"time"

	"warder/secmon/pattern/sigma"
)

// Rule is a rule of a library with what is to be done when it matches.
type Rule struct {
	*sigma.Rule
	// Responses are what is done, in the order of the rule. Alert is implied by
	// every one but Record.
	Responses []Response
	// Throttle is how long after an alert further matches of the same VMs are
	// only counted; 0 for not at all.
	Throttle time.Duration
	// Samples are streams of events on which the rule must alert, and must not.
	Samples Samples
}

// Response is something to be done about a match.
type Response string

const (
	// Record writes the match down as an alert that nobody is told of.
	Record Response = "record"
	// AlertOnly tells of the match and lets the act take place.
	AlertOnly Response = "alert"
	// Block has the act that completes the pattern fail with EPERM before it
	// does anything.
	Block Response = "block"
	// Pause stops the VM that completed the pattern until somebody resumes it.
	Pause Response = "pause"
	// Isolate takes the VMs that took part off the network.
	Isolate Response = "isolate"
	// Snapshot keeps the memory of the VMs that took part.
	Snapshot Response = "snapshot"
	// Destroy ends the VM that completed the pattern.
	Destroy Response = "destroy"
	// Mirror replaces the supervisor VM, if it took part, by a clean one.
	Mirror Response = "mirror"
)

// Responses are all there are.
var Responses = []Response{Record, AlertOnly, Block, Pause, Isolate, Snapshot, Destroy, Mirror}

// decidesAtOnce says whether a response is about the act itself, which waits
// for it.
func (r *Rule) decidesAtOnce() bool {
	return slices.Contains(r.Responses, Block) || slices.Contains(r.Responses, Pause)
}

// response is what an alert says was done.
func (r *Rule) response() string {
	words := make([]string, len(r.Responses))
	for i, x := range r.Responses {
		words[i] = string(x)
	}
	return strings.Join(words, ",")
}

// newRule reads what a rule says under "warder".
func newRule(s *sigma.Rule) (*Rule, error) {
	r := &Rule{Rule: s, Responses: []Response{AlertOnly}}
	n := s.Extension
	if n == nil {
		return r, nil
	}
	if n.Kind != sigma.MapNode {
		return nil, s.Fault(n.Pos, "a map of response, throttle and samples is needed here")
	}
	if s.Filter != nil {
		return nil, s.Fault(n.Pos, "a filter has no response: that is the business of the rules that it filters")
	}
	for i, key := range n.Keys {
		v := n.List[i]
		var err error
		switch key.Text {
		case "response":
			err = r.readResponses(v)
		case "throttle":
			if r.Throttle, err = sigma.ParseTimespan(v.Text); err != nil {
				err = s.Fault(v.Pos, "%v", err)
			}
		case "samples":
			err = r.readSamples(v)
		default:
			err = s.Fault(key.Pos, "there is no %q under warder, only response, throttle and samples", key.Text)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *Rule) readResponses(n *sigma.Node) error {
	list := []*sigma.Node{n}
	if n.Kind == sigma.ListNode {
		list = n.List
	}
	r.Responses = nil
	for _, v := range list {
		if !slices.Contains(Responses, Response(v.Text)) {
			var names []string
			for _, x := range Responses {
				names = append(names, string(x))
			}
			return r.Fault(v.Pos, "a response is one of %s", strings.Join(names, ", "))
		}
		r.Responses = append(r.Responses, Response(v.Text))
	}
	if len(r.Responses) == 0 {
		return r.Fault(n.Pos, "a response is needed here")
	}
	return nil
}
