package detect

import (
	"slices"
	"strings"

	"warder/secmon/pattern/literal"
	"warder/secmon/pattern/record"
	"warder/secmon/pattern/sigma"
)

// Compile makes a program of detection rules. Every rule must be one; the error
// is a [*sigma.Error] at what cannot be evaluated.
func Compile(rules []*sigma.Rule) (*Program, error) {
	c := newCompiler()
	for i, r := range rules {
		if err := c.rule(i, r); err != nil {
			return nil, err
		}
	}
	p := c.program
	p.count = len(rules)
	slices.SortStableFunc(p.rules, func(a, b rule) int { return int(a.kind) - int(b.kind) })
	p.index()
	return p, nil
}

type compiler struct {
	program *Program
	named   map[fieldName]int // inputs by the name that a kind of records has for them
	inputs  map[*record.Field]int
}

type fieldName struct {
	kind record.Kind
	name string
}

func newCompiler() *compiler {
	return &compiler{program: &Program{}, named: make(map[fieldName]int), inputs: make(map[*record.Field]int)}
}

// rule adds a rule to the programs of all kinds that its log source has.
func (c *compiler) rule(index int, r *sigma.Rule) error {
	from, wrong := record.Select(r.Source)
	if wrong != "" {
		return r.Fault(r.Pos, "%s", wrong)
	}
	if err := c.known(r, from.Kinds); err != nil {
		return err
	}
	possible := false
	for _, k := range from.Kinds {
		x := c.expr(k, r.Detection.Expr)
		if x == always(false) {
			continue
		}
		possible = true
		c.program.rules = append(c.program.rules, rule{index, k, from, k == record.Log || k == record.Native, x})
	}
	if !possible {
		return r.Fault(r.Pos, "no event of %v can match this rule", r.Source)
	}
	return nil
}

// known refuses a rule that tests a field which none of its records has.
func (c *compiler) known(r *sigma.Rule, kinds []record.Kind) error {
	var fault error
	each(r.Detection.Expr, func(m *sigma.Match) {
		names := []string{m.Field}
		if ref, ok := m.Test.(sigma.FieldRef); ok {
			names = append(names, ref.Field)
		}
		for _, name := range names {
			if name == "" || fault != nil {
				continue
			}
			if !slices.ContainsFunc(kinds, func(k record.Kind) bool { _, ok := k.Field(name); return ok }) {
				fault = r.Fault(m.Pos, "%s events have no field %s here; they have %s", kinds[0], name, strings.Join(kinds[0].Fields(), ", "))
			}
		}
	})
	return fault
}

func each(x sigma.Expr, f func(*sigma.Match)) {
	switch x := x.(type) {
	case sigma.And:
		for _, p := range x {
			each(p, f)
		}
	case sigma.Or:
		for _, p := range x {
			each(p, f)
		}
	case sigma.Not:
		each(x.X, f)
	case *sigma.Match:
		f(x)
	}
}

// expr is an expression as records of kind k can match it, without the parts
// that the kind decides.
func (c *compiler) expr(k record.Kind, x sigma.Expr) node {
	switch x := x.(type) {
	case sigma.And:
		var out and
		for _, p := range x {
			switch n := c.expr(k, p).(type) {
			case always:
				if !n {
					return n
				}
			default:
				out = append(out, n)
			}
		}
		if len(out) == 0 {
			return always(true)
		}
		return out
	case sigma.Or:
		return c.or(k, x)
	case sigma.Not:
		switch n := c.expr(k, x.X).(type) {
		case always:
			return !n
		default:
			return not{n}
		}
	}
	m := x.(*sigma.Match)
	if m.Field != "" {
		return c.test(k, m.Field, m.Test)
	}
	var fields sigma.Or
	for _, name := range k.Texts() {
		fields = append(fields, &sigma.Match{Field: name, Test: m.Test})
	}
	return c.or(k, fields)
}

func (c *compiler) or(k record.Kind, x sigma.Or) node {
	var out or
	for _, p := range x {
		switch n := c.expr(k, p).(type) {
		case always:
			if n {
				return n
			}
		default:
			out = append(out, n)
		}
	}
	if len(out) == 0 {
		return always(false)
	}
	return out
}

// test is one test of a field.
func (c *compiler) test(k record.Kind, name string, t sigma.Test) node {
	at, ok := c.field(k, name)
	if !ok {
		switch t := t.(type) {
		case sigma.Null:
			return always(true)
		case sigma.Exists:
			return always(!t)
		}
		return always(false)
	}
	switch t := t.(type) {
	case *sigma.Text:
		if v, ok := k.Constant(name); ok {
			if !t.Cased {
				v = sigma.Fold(v)
			}
			return always(t.Match(v))
		}
		for _, p := range t.Parts {
			if !c.program.inputs[at].field.CanHave(p.Literal) {
				return always(false)
			}
		}
		return textual{at, t}
	case *sigma.Regexp:
		return regexped{at, t}
	case sigma.CIDR:
		return inNetwork{at, t}
	case sigma.Compare:
		return compared{at, t}
	case sigma.DatePart:
		return dated{at, t}
	case sigma.Null:
		return isNull{at}
	case sigma.Exists:
		return exists{at, bool(t)}
	}
	ref := t.(sigma.FieldRef)
	other, ok := c.field(k, ref.Field)
	if !ok {
		return always(false)
	}
	return referred{at, other, ref}
}

// field gives the number of the input that is a field of kind k.
func (c *compiler) field(k record.Kind, name string) (int, bool) {
	if i, ok := c.named[fieldName{k, name}]; ok {
		return i, true
	}
	f, ok := k.Field(name)
	if !ok {
		return 0, false
	}
	i, ok := c.inputs[f]
	if !ok {
		i = len(c.program.inputs)
		c.program.inputs = append(c.program.inputs, input{field: f})
		c.inputs[f] = i
	}
	c.named[fieldName{k, name}] = i
	return i, true
}

// index builds the automata.
func (p *Program) index() {
	keys := make([][]string, len(p.inputs))
	for i := range p.rules {
		needs, ok := needed(p.rules[i].expr)
		if !ok {
			p.always = append(p.always, uint32(i))
			continue
		}
		for _, n := range needs {
			in := &p.inputs[n.field]
			keys[n.field] = append(keys[n.field], n.key)
			in.owners = append(in.owners, uint32(i))
			in.kinds |= 1 << p.rules[i].kind
		}
	}
	for i, k := range keys {
		if len(k) > 0 {
			p.inputs[i].set = literal.New(k)
		}
	}
}

// Kinds are the kinds of records that can match a rule.
func (p *Program) Kinds(index int) []record.Kind {
	var kinds []record.Kind
	for k := range record.Kinds {
		if slices.ContainsFunc(p.rules, func(r rule) bool { return r.index == index && r.kind == k }) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}
