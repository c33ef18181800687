package splice

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"warder/secmon/event"
	"warder/secmon/pattern/record"
	"warder/secmon/pattern/sigma"
	"warder/secmon/syscalls"
)

// Limits on a rule, so that a library cannot make the engine slow.
const (
	maxPatterns = 64
	maxPattern  = 4096
)

// What a rule about files may name; others may name any call.
var (
	writeCalls   = []string{"write", "pwrite64", "writev", "pwritev", "pwritev2"}
	triggerCalls = []string{"execve", "execveat", "openat"}
)

// Compile checks a correlation of type [Type]. The error is a [*sigma.Error].
func Compile(r *sigma.Rule) (*Rule, error) {
	c := compiler{rule: r, n: r.Correlation.Extra}
	out := &Rule{Rule: r, Response: "alert"}
	return out, c.splice(&out.Splice)
}

// compiler reads the section of one rule.
type compiler struct {
	rule *sigma.Rule
	n    *sigma.Node
}

// at is the node of a path of keys, or the nearest one above it.
func (c *compiler) at(path ...string) *sigma.Node {
	n := c.n
	for _, key := range path {
		if next := n.Get(key); next != nil {
			n = next
		}
	}
	return n
}

func (c *compiler) fail(n *sigma.Node, format string, args ...any) error {
	return c.rule.Fault(n.Pos, format, args...)
}

// known refuses keys that a section does not have: a rule that means something
// else than it says is worse than none.
func (c *compiler) known(n *sigma.Node, keys ...string) error {
	if n == nil {
		return nil
	}
	if n.Kind != sigma.MapNode {
		return c.fail(n, "a map of %s is needed here", strings.Join(keys, ", "))
	}
	for _, k := range n.Keys {
		if !slices.Contains(keys, k.Text) {
			return c.fail(k, "there is no %q here, only %s", k.Text, strings.Join(keys, ", "))
		}
	}
	return nil
}

func (c *compiler) splice(s *Splice) error {
	for _, section := range []struct {
		n    *sigma.Node
		keys []string
	}{
		{c.n, []string{"type", "group-by", "timespan", "condition", "parts", "match", "trigger"}},
		{c.n.Get("condition"), []string{"gte"}},
		{c.n.Get("parts"), []string{"syscall", "share", "message", "join", "content"}},
		{c.n.Get("match"), []string{"strings", "regexps", "sequence"}},
		{c.n.Get("trigger"), []string{"syscall", "share", "message", "vm"}},
	} {
		if err := c.known(section.n, section.keys...); err != nil {
			return err
		}
	}
	for _, step := range []func(*Splice) error{c.object, c.span, c.parts, c.trigger, c.match} {
		if err := step(s); err != nil {
			return err
		}
	}
	return nil
}

func (c *compiler) object(s *Splice) error {
	n := c.at("group-by")
	if n.Kind != sigma.ListNode || len(n.List) != 1 {
		return c.fail(n, "a splice is grouped by one thing: [file], or a field")
	}
	s.Object = n.List[0].Text
	if s.Object != "file" {
		if _, ok := record.Native.Any(s.Object); !ok {
			return c.fail(n.List[0], "events have no field %q to group by", s.Object)
		}
	}
	return nil
}

func (c *compiler) span(s *Splice) (err error) {
	n := c.at("timespan")
	if s.Timespan, err = sigma.ParseTimespan(n.Text); err != nil || n == c.n {
		return c.fail(n, "%v", sigma.ErrTimespan)
	}
	if s.Timespan > maxTimespan {
		return c.fail(n, "a splice has a timespan of at most 24 hours")
	}
	gte := c.at("condition", "gte")
	if s.VMs, err = strconv.Atoi(gte.Text); err != nil || gte.Kind != sigma.IntNode || s.VMs < 2 {
		return c.fail(gte, "a splice is of at least 2 VMs")
	}
	return nil
}

func (c *compiler) parts(s *Splice) (err error) {
	if s.Parts, err = c.acts(s, "parts", writeCalls, "write"); err != nil {
		return err
	}
	if n := c.n.Get("parts").Get("content"); n != nil {
		s.Content = n.Text
		if _, ok := record.Native.Any(s.Content); !ok || s.Object == "file" {
			return c.fail(n, "the content of parts is a field of events, and of a file what is written to it")
		}
	}
	if s.Content == "" && c.n.Get("parts").Get("message") != nil {
		s.Content = "warder.payload"
	}
	if s.Object != "file" {
		s.Join = ByTime
	}
	switch n := c.n.Get("parts").Get("join"); {
	case n == nil || n.Text == "offset" && s.Object == "file":
	case n.Text == "time":
		s.Join = ByTime
	default:
		return c.fail(n, "parts of a file are joined by offset or by time, others by time")
	}
	return nil
}

func (c *compiler) trigger(s *Splice) (err error) {
	if s.Triggers, err = c.acts(s, "trigger", triggerCalls, "read"); err != nil {
		return err
	}
	switch n := c.n.Get("trigger").Get("vm"); {
	case n == nil || n.Text == "other":
		s.Other = true
	case n.Text == "any":
	default:
		return c.fail(n, "the VM of the trigger is other or any")
	}
	return nil
}

func (c *compiler) match(s *Splice) error {
	m := c.at("match")
	strs, res, seq := c.n.Get("match").Get("strings"), c.n.Get("match").Get("regexps"), c.n.Get("match").Get("sequence")
	total := 0
	for _, list := range []*sigma.Node{strs, res, seq} {
		if list == nil {
			continue
		}
		if list.Kind != sigma.ListNode {
			return c.fail(list, "a list is needed here")
		}
		total += len(list.List)
	}
	if total == 0 || total > maxPatterns {
		return c.fail(m, "a splice matches 1 to %d strings, regexps and steps of a sequence", maxPatterns)
	}
	if strs != nil {
		for _, n := range strs.List {
			if n.Kind >= sigma.ListNode || n.Text == "" || len(n.Text) > maxPattern {
				return c.fail(n, "a string of 1 to %d bytes is needed", maxPattern)
			}
			s.Strings = append(s.Strings, n.Text)
		}
	}
	if seq != nil && (len(seq.List) < 2 || len(seq.List) > maxSequence) {
		return c.fail(seq, "a sequence has 2 to %d steps", maxSequence)
	}
	var err error
	if s.Regexps, err = c.regexps(res); err == nil {
		s.Sequence, err = c.regexps(seq)
	}
	return err
}

func (c *compiler) regexps(list *sigma.Node) (out []*regexp.Regexp, err error) {
	if list == nil {
		return nil, nil
	}
	for _, n := range list.List {
		if len(n.Text) > maxPattern {
			return nil, c.fail(n, "a regular expression of more than %d bytes", maxPattern)
		}
		re, err := regexp.Compile(n.Text)
		if err != nil {
			return nil, c.fail(n, "%v", err)
		}
		if re.MatchString("") {
			return nil, c.fail(n, "this regular expression matches nothing at all")
		}
		out = append(out, re)
	}
	return out, nil
}

// acts are the system calls, the messages and what is done on a share of a section: of one
// of them at least there is a list. onShare is what can be done there.
func (c *compiler) acts(s *Splice, section string, ofFile []string, onShare string) (acts []string, err error) {
	messages, shared := c.n.Get(section).Get("message"), c.n.Get(section).Get("share")
	if messages == nil && shared == nil || c.n.Get(section).Get("syscall") != nil {
		if acts, err = c.calls(s, c.at(section, "syscall"), ofFile); err != nil {
			return nil, err
		}
	}
	if shared != nil {
		if s.Object != "file" || shared.Kind != sigma.ListNode || len(shared.List) != 1 || shared.List[0].Text != onShare {
			return nil, c.fail(shared, "what is done on a share is for objects that are files: [%s]", onShare)
		}
		acts = append(acts, share+onShare)
	}
	if messages == nil {
		return acts, nil
	}
	if s.Object == "file" || messages.Kind != sigma.ListNode || len(messages.List) == 0 {
		return nil, c.fail(messages, "a list of messages is for objects that are no files: %s", strings.Join(event.Messages, ", "))
	}
	for _, m := range messages.List {
		if !slices.Contains(event.Messages, m.Text) {
			return nil, c.fail(m, "there is no message %q, only %s", m.Text, strings.Join(event.Messages, ", "))
		}
		acts = append(acts, message+m.Text)
	}
	return acts, nil
}

// calls checks a list of system calls: of a file they must be some of those that
// can play the part.
func (c *compiler) calls(s *Splice, n *sigma.Node, ofFile []string) (calls []string, err error) {
	if n.Kind != sigma.ListNode || len(n.List) == 0 {
		return nil, c.fail(n, "system calls are needed here, as %s", strings.Join(ofFile, ", "))
	}
	for _, call := range n.List {
		if s.Object == "file" && !slices.Contains(ofFile, call.Text) {
			return nil, c.fail(call, "the system call %q cannot be used here, only %s", call.Text, strings.Join(ofFile, ", "))
		}
		if !syscalls.Known(call.Text) {
			return nil, c.fail(call, "there is no system call %q", call.Text)
		}
		calls = append(calls, call.Text)
	}
	return calls, nil
}
