// Package detect tells which of many Sigma detection rules one event matches.
//
// [Compile] turns rules into a [Program]: per kind of record the rules that can
// match one, and per field an automaton of the literals that they need, so that
// an event costs one pass over its fields and then only the rules of which a
// needed literal was found. A rule that no event of ours could ever match is
// refused.
package detect

import (
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
	rules    int
	kinds    [record.Kinds]program
	matchers sync.Pool
}

// program is the rules for one kind of record.
type program struct {
	fields []field
	rules  []rule
	always []uint32 // rules that no literal rules out
}

// field is a field that rules test.
type field struct {
	name   string
	read   record.Field
	set    *literal.Set // nil if no rule needs a literal of it
	owners []uint32     // of the set's keys: the rule that needs it
}

// rule is one rule as records of one kind can match it.
type rule struct {
	index  int
	from   record.Selector
	narrow bool // from says more than the kind
	expr   node
}

// matcher is what evaluating needs besides the program; one goroutine uses it
// at a time.
type matcher struct {
	records []record.Record
	matched []bool // by rule
	kinds   [record.Kinds]*state
}

// state is what is known of the record at hand.
type state struct {
	program *program
	record  record.Record
	values  []value // by field
	epoch   uint32
	seen    []uint32 // by rule: the epoch in which it became a candidate
	wanted  []uint32 // candidates
	hits    []func(key uint32)
}

// value is a field's value, in the forms that have been asked for so far.
type value struct {
	read, texted, folded bool
	value                record.Value
	text, fold           string
}

// Match appends what an event matches to matches, at most one a rule, in the
// order of the rules within a record. It allocates nothing when nothing comes
// close to matching.
func (p *Program) Match(e *event.Event, matches []Match) []Match {
	m, _ := p.matchers.Get().(*matcher)
	if m == nil {
		m = p.newMatcher()
	}
	m.records = record.Of(e, m.records[:0])
	from := len(matches)
	for _, r := range m.records {
		if s := m.kinds[r.Kind]; s != nil {
			matches = s.match(r, m.matched, matches)
		}
	}
	for _, found := range matches[from:] {
		m.matched[found.Rule] = false
	}
	clear(m.records) // keep no event alive
	p.matchers.Put(m)
	return matches
}

func (p *Program) newMatcher() *matcher {
	m := &matcher{matched: make([]bool, p.rules)}
	for k := range p.kinds {
		prog := &p.kinds[k]
		if len(prog.rules) == 0 {
			continue
		}
		s := &state{
			program: prog, values: make([]value, len(prog.fields)), seen: make([]uint32, len(prog.rules)),
			hits: make([]func(uint32), len(prog.fields)),
		}
		for i := range prog.fields {
			owners := prog.fields[i].owners
			s.hits[i] = func(key uint32) { s.want(owners[key]) }
		}
		m.kinds[k] = s
	}
	return m
}

// want makes a rule a candidate.
func (s *state) want(rule uint32) {
	if s.seen[rule] != s.epoch {
		s.seen[rule] = s.epoch
		s.wanted = append(s.wanted, rule)
	}
}

func (s *state) match(r record.Record, matched []bool, matches []Match) []Match {
	s.record = r
	s.epoch++
	if s.epoch == 0 { // what is in seen could be of long ago
		clear(s.seen)
		s.epoch = 1
	}
	clear(s.values)
	s.wanted = s.wanted[:0]
	for i := range s.program.fields {
		if f := &s.program.fields[i]; f.set != nil {
			s.scan(i, f)
		}
	}
	for _, n := range s.program.always {
		s.want(n)
	}
	for _, n := range s.wanted {
		ru := &s.program.rules[n]
		if matched[ru.index] || ru.narrow && !ru.from.Has(r) {
			continue
		}
		if ru.expr.eval(s) {
			matched[ru.index] = true
			matches = append(matches, Match{ru.index, r.Kind})
		}
	}
	s.record = record.Record{}
	return matches
}

// scan looks for the literals that rules need of a field.
func (s *state) scan(i int, f *field) {
	v := s.value(i)
	if v.State != record.Present {
		return
	}
	switch v.Form {
	case record.Text, record.Args, record.Bytes:
		f.set.Find(v.Text, s.hits[i])
	default:
		f.set.Find(s.text(i), s.hits[i])
	}
}

func (s *state) value(i int) record.Value {
	v := &s.values[i]
	if !v.read {
		v.value, v.read = s.program.fields[i].read(s.record.Event), true
	}
	return v.value
}

func (s *state) text(i int) string {
	v := &s.values[i]
	if !v.texted {
		v.text, v.texted = s.value(i).String(), true
	}
	return v.text
}

func (s *state) fold(i int) string {
	v := &s.values[i]
	if !v.folded {
		v.fold, v.folded = sigma.Fold(s.text(i)), true
	}
	return v.fold
}
