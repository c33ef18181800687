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
	c := compiler{fields: [record.Kinds]map[string]int{}}
	for k := range c.fields {
		c.fields[k] = make(map[string]int)
	}
	p := &Program{rules: len(rules)}
	c.program = p
	for i, r := range rules {
		if err := c.rule(i, r); err != nil {
			return nil, err
		}
	}
	for k := range p.kinds {
		p.kinds[k].index()
	}
	return p, nil
}

type compiler struct {
	program *Program
	fields  [record.Kinds]map[string]int
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
		p := &c.program.kinds[k]
		p.rules = append(p.rules, rule{index, from, k == record.Log || k == record.Native, x})
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

// field gives the number of a field of kind k.
func (c *compiler) field(k record.Kind, name string) (int, bool) {
	if i, ok := c.fields[k][name]; ok {
		return i, true
	}
	read, ok := k.Field(name)
	if !ok {
		return 0, false
	}
	p := &c.program.kinds[k]
	p.fields = append(p.fields, field{name: name, read: read})
	c.fields[k][name] = len(p.fields) - 1
	return len(p.fields) - 1, true
}

// index builds the automata.
func (p *program) index() {
	keys := make([][]string, len(p.fields))
	for i := range p.rules {
		needs, ok := needed(p.rules[i].expr)
		if !ok {
			p.always = append(p.always, uint32(i))
			continue
		}
		for _, n := range needs {
			keys[n.field] = append(keys[n.field], n.key)
			p.fields[n.field].owners = append(p.fields[n.field].owners, uint32(i))
		}
	}
	for i, k := range keys {
		if len(k) > 0 {
			p.fields[i].set = literal.New(k)
		}
	}
}

// Kinds are the kinds of records that can match a rule.
func (p *Program) Kinds(index int) []record.Kind {
	var kinds []record.Kind
	for k := range record.Kinds {
		if slices.ContainsFunc(p.kinds[k].rules, func(r rule) bool { return r.index == index }) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}
