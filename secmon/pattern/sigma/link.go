package sigma

import (
	"crypto/sha256"
	"slices"
)

// Set is rules that refer to each other, resolved.
type Set struct {
	// Rules are the detections and correlations, each after those that it
	// refers to. Filters have gone into the detections that they narrow.
	Rules []*Rule
	// Refs are the rules that a correlation refers to, in its order.
	Refs map[*Rule][]*Rule
	// Standalone are the rules that alert by themselves: all that no
	// correlation refers to, and those of correlations that generate.
	Standalone map[*Rule]bool
	// Excepted is, of a detection that filters narrow, what it would match
	// without them and does not.
	Excepted map[*Rule]Expr
}

// Link resolves the references of correlations and filters. Names and ids must
// be unique, nothing may refer to itself, and nothing to what is not there.
func Link(rules []*Rule) (*Set, error) {
	l := &linker{byKey: make(map[string]*Rule), state: make(map[*Rule]int), filtered: make(map[*Rule]*Rule)}
	l.set = Set{Refs: make(map[*Rule][]*Rule), Standalone: make(map[*Rule]bool), Excepted: make(map[*Rule]Expr)}
	for _, r := range rules {
		for i, key := range []string{r.ID, r.Name} {
			if key == "" {
				continue
			}
			if other := l.byKey[key]; other != nil && other != r {
				return nil, r.Fault(r.Pos, "%s %q is also that of %q in %s", [...]string{"the id", "the name"}[i], key, other.Title, other.File())
			}
			l.byKey[key] = r
		}
	}
	if err := l.filters(rules); err != nil {
		return nil, err
	}
	quiet := make(map[*Rule]bool)
	for _, r := range rules {
		if r.Filter != nil {
			continue
		}
		if err := l.visit(l.narrowed(r), quiet); err != nil {
			return nil, err
		}
	}
	for _, r := range l.set.Rules {
		l.set.Standalone[r] = !quiet[r]
	}
	for r, narrowed := range l.filtered {
		l.set.Excepted[narrowed] = And{r.Detection.Expr, Not{narrowed.Detection.Expr}}
	}
	return &l.set, nil
}

type linker struct {
	set      Set
	byKey    map[string]*Rule
	state    map[*Rule]int
	filtered map[*Rule]*Rule // detections with their filters, by the original
}

// narrowed is a rule with the filters that apply to it.
func (l *linker) narrowed(r *Rule) *Rule {
	if f := l.filtered[r]; f != nil {
		return f
	}
	return r
}

// filters applies all filters, in order, to copies of the rules.
func (l *linker) filters(rules []*Rule) error {
	for _, f := range rules {
		if f.Filter == nil {
			continue
		}
		for _, r := range rules {
			if f.Filter.Any && r.Detection != nil && f.Source.Covers(r.Source) {
				l.narrow(r, f)
			}
		}
		for i, key := range f.Filter.Rules {
			r := l.byKey[key]
			switch at := f.Filter.RulePos[i]; {
			case r == nil:
				return f.Fault(at, "there is no rule %q to filter", key)
			case r.Detection == nil:
				return f.Fault(at, "%q is not a detection rule: only those are filtered", key)
			case !f.Source.Covers(r.Source):
				return f.Fault(at, "the rule %q is for %v, the filter for %v", key, r.Source, f.Source)
			}
			l.narrow(r, f)
		}
	}
	return nil
}

func (l *linker) narrow(r, filter *Rule) {
	narrowed := *l.narrowed(r)
	narrowed.digest = sha256.Sum256(append(narrowed.digest[:], filter.digest[:]...))
	narrowed.Detection = &Detection{Expr: simple(And{narrowed.Detection.Expr, filter.Filter.Expr})}
	l.filtered[r] = &narrowed
}

const (
	visiting = iota + 1
	visited
)

// visit appends a rule behind those that it refers to.
func (l *linker) visit(r *Rule, quiet map[*Rule]bool) error {
	if l.state[r] == visited {
		return nil
	}
	l.state[r] = visiting
	if c := r.Correlation; c != nil {
		for i, key := range c.Rules {
			ref := l.byKey[key]
			if ref == nil {
				return r.Fault(c.RulePos[i], "there is no rule %q", key)
			}
			if ref.Filter != nil {
				return r.Fault(c.RulePos[i], "%q is a filter, which cannot be correlated", key)
			}
			ref = l.narrowed(ref)
			if l.state[ref] == visiting {
				return r.Fault(c.RulePos[i], "%q refers back to this rule", key)
			}
			if slices.Contains(l.set.Refs[r], ref) {
				return r.Fault(c.RulePos[i], "%q is there twice", key)
			}
			if err := l.visit(ref, quiet); err != nil {
				return err
			}
			l.set.Refs[r] = append(l.set.Refs[r], ref)
			if !c.Generate {
				quiet[ref] = true
			}
		}
	}
	l.state[r] = visited
	l.set.Rules = append(l.set.Rules, r)
	return nil
}

// Same gives, by the index of each rule that says the same in both sets, all
// that it refers to included, its index in old.
func (s *Set) Same(old *Set) map[int]int {
	before := make(map[[sha256.Size]byte]int)
	for i, d := range old.digests() {
		before[d] = i
	}
	same := make(map[int]int)
	for i, d := range s.digests() {
		if j, ok := before[d]; ok {
			same[i] = j
		}
	}
	return same
}

// digests are those of the rules with all that they refer to.
func (s *Set) digests() [][sha256.Size]byte {
	out := make([][sha256.Size]byte, len(s.Rules))
	byRule := make(map[*Rule][sha256.Size]byte)
	for i, r := range s.Rules {
		sum := slices.Clone(r.digest[:])
		for _, ref := range s.Refs[r] {
			d := byRule[ref]
			sum = append(sum, d[:]...)
		}
		out[i] = sha256.Sum256(sum)
		byRule[r] = out[i]
	}
	return out
}
