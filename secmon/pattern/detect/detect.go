// Package detect tells which of many Sigma detection rules one event matches.
//
// [Compile] turns rules into a [Program]: per field an automaton of the literals
// that rules need of it, so that an event costs one pass over its fields and then
// only the rules of which a needed literal was found. A field that several kinds
// of records have under different names is one. A rule that no event of ours
// could ever match is refused.
package detect

import (
	"slices"
	"sync"

	"warder/secmon/event"
	"warder/secmon/pattern/literal"
	"warder/secmon/pattern/record"
	"warder/secmon/pattern/sigma"
)

// Match says that an event matched a rule, and which of its records did.
type Match struct {
	Rule int // index in the rules that were compiled
	Kind record.Kind
}

// Program is compiled rules. It is not changed, and may be used by any number
// of goroutines.
type Program struct {
	count  int    // of the rules that were compiled
	rules  []rule // as records of one kind can match them, by kind
	always []uint32
	inputs []input
	states sync.Pool
}

// input is a field that rules test.
type input struct {
	field  *record.Field
	set    *literal.Set // nil if no rule needs a literal of it
	owners []uint32     // of the set's keys: the rule that needs it
	kinds  kinds        // of the owners
}

// kinds is a set of kinds of records.
type kinds uint16

const _ = kinds(1) << (record.Kinds - 1) // all have room

func (k kinds) has(kind record.Kind) bool { return k>>kind&1 != 0 }

// rule is one rule as records of one kind can match it.
type rule struct {
	index  int
	kind   record.Kind
	from   record.Selector
	narrow bool // from says more than the kind
	expr   node
}

// state is what evaluating needs besides the program; one goroutine uses it at a
// time.
type state struct {
	program *Program
	event   *event.Event
	epoch   uint32 // counts events
	records []record.Record
	values  []value  // by input
	barren  []barren // by input
	seen    []uint32 // by rule: the epoch in which it became a candidate
	wanted  []uint32 // candidates
	hits    []uint32
	number  []byte   // or another value that is no text, as text
	matched []uint32 // by rule that was compiled: the epoch in which it matched
	plans   map[kinds]*plan
}

// plan is what there is to look at for events that make records of some kinds.
type plan struct {
	scans  []uint32 // inputs with a set
	always []uint32 // rules that no literal rules out
}

// value is a field's value, in the forms that have been asked for so far.
type value struct {
	epoch          uint32 // in which it was read
	texted, folded bool
	value          record.Value
	text, fold     string
}

// Match appends what an event matches to matches, at most one a rule, in the
// order of kinds and within a kind of rules. It allocates nothing when nothing
// comes close to matching.
func (p *Program) Match(e *event.Event, matches []Match) []Match {
	s, _ := p.states.Get().(*state)
	if s == nil {
		s = p.newState()
	}
	matches = s.match(e, matches)
	s.event = nil // keep no event alive
	p.states.Put(s)
	return matches
}

func (p *Program) newState() *state {
	return &state{
		program: p, values: make([]value, len(p.inputs)), barren: make([]barren, len(p.inputs)), seen: make([]uint32, len(p.rules)), matched: make([]uint32, p.count),
		plans: make(map[kinds]*plan),
	}
}

func (s *state) begin(e *event.Event) {
	s.event = e
	s.epoch++
	if s.epoch == 0 { // what is noted could be of long ago
		clear(s.seen)
		clear(s.matched)
		clear(s.values)
		s.epoch = 1
	}
}

func (s *state) match(e *event.Event, matches []Match) []Match {
	s.begin(e)
	s.records = record.Of(e, s.records[:0])
	var of kinds
	for i := range s.records {
		of |= 1 << s.records[i].Kind
	}
	clear(s.records)
	plan := s.plans[of]
	if plan == nil {
		plan = s.program.plan(of)
		s.plans[of] = plan
	}
	s.wanted = append(s.wanted[:0], plan.always...)
	for _, i := range plan.scans {
		s.scan(int(i), of)
	}
	if len(s.wanted) == 0 {
		return matches
	}
	slices.Sort(s.wanted)
	for _, n := range s.wanted {
		ru := &s.program.rules[n]
		if s.matched[ru.index] == s.epoch || ru.narrow && !ru.from.Has(record.Record{Event: e, Kind: ru.kind}) {
			continue
		}
		if ru.expr.eval(s) {
			s.matched[ru.index] = s.epoch
			matches = append(matches, Match{ru.index, ru.kind})
		}
	}
	return matches
}

// plan says what there is to look at.
func (p *Program) plan(of kinds) *plan {
	out := &plan{}
	for i := range p.inputs {
		if p.inputs[i].kinds&of != 0 {
			out.scans = append(out.scans, uint32(i))
		}
	}
	for _, n := range p.always {
		if of.has(p.rules[n].kind) {
			out.always = append(out.always, n)
		}
	}
	return out
}

// scan makes candidates of the rules that need a literal which the input has.
func (s *state) scan(i int, of kinds) {
	in := &s.program.inputs[i]
	v := s.value(i)
	if v.State != record.Present {
		return
	}
	switch v.Form {
	case record.Text, record.Args, record.Bytes:
		if s.barren[i].has(v.Text) {
			return
		}
		if s.hits = in.set.Append(s.hits[:0], v.Text); len(s.hits) == 0 {
			s.barren[i].add(v.Text)
			return
		}
	default:
		s.number = v.Append(s.number[:0])
		s.hits = in.set.AppendBytes(s.hits[:0], s.number)
	}
	for _, key := range s.hits {
		n := in.owners[key]
		if s.seen[n] != s.epoch && of.has(s.program.rules[n].kind) {
			s.seen[n] = s.epoch
			s.wanted = append(s.wanted, n)
		}
	}
}

func (s *state) read(i int) *value {
	v := &s.values[i]
	if v.epoch != s.epoch {
		v.epoch, v.texted, v.folded = s.epoch, false, false
		v.value = s.program.inputs[i].field.Value(s.event)
	}
	return v
}

func (s *state) value(i int) *record.Value { return &s.read(i).value }

func (s *state) text(i int) string {
	v := s.read(i)
	if !v.texted {
		v.text, v.texted = v.value.String(), true
	}
	return v.text
}

func (s *state) fold(i int) string {
	v := s.read(i)
	if !v.folded {
		v.fold, v.folded = sigma.Fold(s.text(i)), true
	}
	return v.fold
}
