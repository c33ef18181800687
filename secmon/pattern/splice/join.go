package splice

import (
	"bytes"
	"slices"
	"strconv"

	"warder/secmon/event"
)

// span is a stretch of joined bytes that one part contributed. What a part was
// asked to write and we did not see has a span without bytes.
type span struct {
	at   int64 // its place in the joined object
	size int64
	data []byte // nil, or size bytes
	part int    // index of the part
}

func (s span) end() int64 { return s.at + s.size }

// cut gives the stretch of s from one place to another.
func (s span) cut(from, to int64) span {
	c := span{at: from, size: to - from, part: s.part}
	if s.data != nil {
		c.data = s.data[from-s.at : to-s.at]
	}
	return c
}

// join puts parts together, in the order of their times, as the rule says, to
// an object of that size; -1 stands for any. The spans are sorted and do not
// overlap.
//
// A part that was appended lies where the object ended when the call was made.
// With atEnd it lies behind all parts before it: the same, unless another
// call was under way then, or the object has been emptied.
func join(how Join, parts []part, size int64, atEnd bool) []span {
	var spans []span
	end := int64(0)
	for i := range parts {
		c := &parts[i].event.Call
		known := int64(len(c.Payload))
		length := max(known, int64(min(c.Size, maxPlace)))
		at := end
		switch {
		case how == ByTime || c.Offset < 0 || c.Append && atEnd && end > c.Offset:
		default:
			at = c.Offset
		}
		if length == 0 || at > maxPlace { // nothing, or beyond what any file can hold
			continue
		}
		end = max(end, at+length)
		if known > 0 {
			for _, s := range news(spans, span{at, known, c.Payload, i}) {
				spans = overlay(spans, s)
			}
		}
		// Of the rest it is not even known whether it could be written.
		for _, gap := range gaps(spans, at+known, at+length) {
			gap.part = i
			spans = overlay(spans, gap)
		}
	}
	if how == ByOffset && size >= 0 {
		spans = clip(spans, size)
	}
	return spans
}

// news gives what a part changes: a kernel that writes back a page of which its program
// has changed a byte writes all others as they were, and those remain whose they are.
func news(spans []span, s span) (out []span) {
	first, _ := slices.BinarySearchFunc(spans, s.at, func(o span, at int64) int {
		if o.end() <= at {
			return -1
		}
		return 1
	})
	from := s.at
	for _, o := range spans[first:] {
		if o.at >= s.end() {
			break
		}
		lo, hi := max(o.at, s.at), min(o.end(), s.end())
		if o.data == nil || !bytes.Equal(o.cut(lo, hi).data, s.cut(lo, hi).data) {
			continue
		}
		if from < lo {
			out = append(out, s.cut(from, lo))
		}
		from = hi
	}
	if from < s.end() {
		out = append(out, s.cut(from, s.end()))
	}
	return out
}

// maxPlace is more than any file can hold.
const maxPlace = 1 << 62

// gaps gives what no span covers of a stretch, as spans without bytes.
func gaps(spans []span, from, to int64) []span {
	var out []span
	for _, s := range spans {
		if s.end() <= from {
			continue
		}
		if s.at >= to {
			break
		}
		if s.at > from {
			out = append(out, span{at: from, size: s.at - from})
		}
		from = s.end()
	}
	if from < to {
		out = append(out, span{at: from, size: to - from})
	}
	return out
}

// clip cuts off what lies beyond the end.
func clip(spans []span, size int64) []span {
	for i, s := range spans {
		switch {
		case s.at >= size:
			return spans[:i]
		case s.end() > size:
			spans[i] = s.cut(s.at, size)
			return spans[:i+1]
		}
	}
	return spans
}

// overlay puts s over sorted spans: what it covers of them is replaced.
func overlay(spans []span, s span) []span {
	first, _ := slices.BinarySearchFunc(spans, s.at, func(o span, at int64) int {
		if o.end() <= at {
			return -1
		}
		return 1
	})
	last := first
	put := make([]span, 0, 3)
	for ; last < len(spans) && spans[last].at < s.end(); last++ {
		if spans[last].at < s.at {
			put = append(put, spans[last].cut(spans[last].at, s.at))
		}
	}
	put = append(put, s)
	if last > first {
		if o := spans[last-1]; o.end() > s.end() {
			put = append(put, o.cut(s.end(), o.end()))
		}
	}
	return slices.Replace(spans, first, last, put...)
}

// run is a stretch of joined bytes without a gap.
type run struct {
	data  []byte
	spans []span // those that data was made of
}

// runs cuts spans at every gap.
func runs(spans []span) []run {
	var out []run
	next := int64(-1)
	for _, s := range spans {
		if s.data == nil {
			next = -1
			continue
		}
		if s.at != next || len(out) == 0 {
			out = append(out, run{})
		}
		r := &out[len(out)-1]
		r.data = append(r.data, s.data...)
		r.spans = append(r.spans, s)
		next = s.end()
	}
	return out
}

// maxFinds bounds how many places of one pattern are looked at.
const maxFinds = 256

// match is what a splice found in an object.
type match struct {
	texts []string         // what was found, quoted, one a pattern
	parts map[int][][]byte // part -> what of it was matched, in order
}

// find looks for all of the rule's patterns in the joined parts of an object,
// of which size and content are what the trigger found, as far as known. It
// gives nil when one is missing.
//
// What the calls were seen to write can be wrong: memory may have changed after
// the look, or not been there. So the places of the parts are also filled with
// what the object holds by now.
func (s *Splice) find(parts []part, size int64, content []byte) *match {
	m := s.findJoined(parts, size, content)
	if m != nil && len(s.Sequence) > 0 && !m.sequence(parts, s.Sequence) {
		return nil
	}
	return m
}

func (s *Splice) findJoined(parts []part, size int64, content []byte) *match {
	for _, atEnd := range []bool{false, true} {
		spans := join(s.Join, parts, size, atEnd)
		if m := s.findIn(runs(spans)); m != nil {
			return m
		}
		if s.Join == ByOffset && len(content) > 0 {
			if m := s.findIn(runs(fill(spans, content))); m != nil {
				return m
			}
		}
	}
	return nil
}

// fill gives spans the bytes that an object begins with.
func fill(spans []span, content []byte) []span {
	var out []span
	for _, s := range clip(slices.Clone(spans), int64(len(content))) {
		s.data = content[s.at:s.end()]
		out = append(out, s)
	}
	return out
}

func (s *Splice) findIn(joined []run) *match {
	m := &match{parts: make(map[int][][]byte)}
	for _, str := range s.Strings {
		if !m.look(joined, func(data []byte, n int) [][]int { return indexes(data, []byte(str), n) }) {
			return nil
		}
	}
	for _, re := range s.Regexps {
		if !m.look(joined, func(data []byte, n int) [][]int { return re.FindAllIndex(data, n) }) {
			return nil
		}
	}
	return m
}

func indexes(data, str []byte, n int) [][]int {
	var found [][]int
	for from := 0; len(found) < n; {
		i := bytes.Index(data[from:], str)
		if i < 0 {
			break
		}
		found = append(found, []int{from + i, from + i + len(str)})
		from += i + len(str)
	}
	return found
}

func (m *match) look(joined []run, find func([]byte, int) [][]int) bool {
	found := 0
	for _, r := range joined {
		for _, place := range find(r.data, maxFinds-found) {
			if found == 0 {
				m.texts = append(m.texts, quote(r.data[place[0]:place[1]]))
			}
			found++
			m.mark(r, place[0], place[1])
		}
		if found == maxFinds {
			break
		}
	}
	return found > 0
}

// mark notes whose bytes a match in a run is made of.
func (m *match) mark(r run, from, to int) {
	at := 0
	for _, s := range r.spans {
		lo, hi := max(from, at), min(to, at+len(s.data))
		if lo < hi {
			m.parts[s.part] = append(m.parts[s.part], s.data[lo-at:hi-at])
		}
		at += len(s.data)
	}
}

// vms lists the distinct VMs whose bytes were matched, by their first part.
func (m *match) vms(parts []part) []string {
	var vms []string
	for i := range parts {
		if m.parts[i] != nil && !slices.Contains(vms, parts[i].event.VM) {
			vms = append(vms, parts[i].event.VM)
		}
	}
	return vms
}

// Bounds on what an alert repeats of the acts that led to it.
const (
	maxActs       = 64
	maxActPayload = 1024
)

// acts gives the contributing events, their payloads cut to what was matched.
// When there are too many, those in the middle are left out.
func (m *match) acts(parts []part) []event.Event {
	var acts []event.Event
	for i := range parts {
		if m.parts[i] == nil {
			continue
		}
		e := parts[i].event
		e.Call.Payload = nil
		for _, p := range m.parts[i] {
			room := maxActPayload - len(e.Call.Payload)
			e.Call.Payload = append(e.Call.Payload, p[:min(len(p), room)]...)
		}
		acts = append(acts, e)
	}
	if extra := len(acts) - maxActs; extra > 0 {
		acts = slices.Delete(acts, maxActs/2, maxActs/2+extra)
	}
	return acts
}

// maxQuoted bounds what an alert repeats of the matched bytes.
const maxQuoted = 256

func quote(p []byte) string {
	if len(p) > maxQuoted {
		return strconv.Quote(string(p[:maxQuoted])) + "..."
	}
	return strconv.Quote(string(p))
}
