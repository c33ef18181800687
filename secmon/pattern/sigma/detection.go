package sigma

import (
	"slices"
	"strings"
)

// detection reads the search identifiers of a section and its conditions.
// Keys in skip belong to the section's owner.
func (s *source) detection(n *Node, skip []string, opts *Options) (Expr, error) {
	if n.Kind != MapNode {
		return nil, s.fail(n.Pos, "search identifiers and a condition are needed here")
	}
	d := &detection{src: s, searches: make(map[string]Expr), used: make(map[string]bool)}
	var conditions *Node
	for i, key := range n.Keys {
		switch {
		case key.Text == "condition":
			conditions = n.List[i]
		case key.Text == "timeframe":
			return nil, s.fail(key.Pos, "timeframe is of Sigma before 2.0: use a correlation rule with a timespan")
		case slices.Contains(skip, key.Text):
		default:
			x, err := s.search(n.List[i], opts)
			if err != nil {
				return nil, err
			}
			d.names = append(d.names, key)
			d.searches[key.Text] = x
		}
	}
	if conditions == nil {
		return nil, s.fail(n.Pos, "a condition is needed")
	}
	x, err := d.conditions(conditions)
	if err != nil {
		return nil, err
	}
	for _, key := range d.names {
		// What the condition does not use would be silently without effect.
		if !d.used[key.Text] && !strings.HasPrefix(key.Text, "_") {
			return nil, s.fail(key.Pos, "the condition does not use %q", key.Text)
		}
	}
	return x, nil
}

// search reads one search identifier: a map of fields, a list of such maps, or
// keywords.
func (s *source) search(n *Node, opts *Options) (Expr, error) {
	switch n.Kind {
	case MapNode:
		return s.fields(n, opts)
	case ListNode:
		if len(n.List) == 0 {
			return nil, s.fail(n.Pos, "an empty list matches nothing")
		}
		var or Or
		for _, item := range n.List {
			var x Expr
			var err error
			if item.Kind == MapNode {
				x, err = s.fields(item, opts)
			} else {
				x, err = s.field(&Node{Pos: item.Pos, Kind: TextNode}, item, opts)
			}
			if err != nil {
				return nil, err
			}
			or = append(or, x)
		}
		return simple(or), nil
	case NullNode:
		return nil, s.fail(n.Pos, "a search identifier without anything to search for")
	default:
		return s.field(&Node{Pos: n.Pos, Kind: TextNode}, n, opts)
	}
}

// fields reads a map of fields: all of them must match.
func (s *source) fields(n *Node, opts *Options) (Expr, error) {
	if len(n.Keys) == 0 {
		return nil, s.fail(n.Pos, "an empty map matches everything")
	}
	var and And
	for i, key := range n.Keys {
		x, err := s.field(key, n.List[i], opts)
		if err != nil {
			return nil, err
		}
		and = append(and, x)
	}
	return simple(and), nil
}

// field reads one field with its modifiers and values. A key without a field
// name is for keywords.
func (s *source) field(key, value *Node, opts *Options) (Expr, error) {
	name, rest, modified := strings.Cut(key.Text, "|")
	m := &modifiers{src: s, pos: key.Pos}
	if modified {
		m.names = strings.Split(rest, "|")
	}
	transform, err := m.read()
	if err != nil {
		return nil, err
	}
	if name == "" {
		if m.exists || m.fieldRef || m.cidr || m.compare || m.datePart != "" {
			return nil, s.fail(key.Pos, "%s needs a field", rest)
		}
		if !m.isRegexp && !m.anchorSet {
			m.where = Anywhere // a keyword is somewhere in the event
		}
	}
	values := []*Node{value}
	if value.Kind == ListNode {
		values = value.List
		if len(values) == 0 {
			return nil, s.fail(value.Pos, "an empty list matches nothing")
		}
	}
	var all And
	for _, v := range values {
		if v.Kind == NullNode && len(values) > 1 {
			return nil, s.fail(v.Pos, "null cannot be one of several values: use another search identifier")
		}
		if name == "" && (v.Kind == IntNode || v.Kind == FloatNode) {
			v = &Node{Pos: v.Pos, Kind: TextNode, Text: v.Text} // as it would be in the text of an event
		}
		tests, err := m.tests(v, transform, opts)
		if err != nil {
			return nil, err
		}
		var or Or
		for _, t := range tests {
			or = append(or, &Match{Field: name, Test: t, Pos: v.Pos})
		}
		all = append(all, simple(or))
	}
	x := simple(all)
	if !m.all {
		x = simple(Or(all))
	}
	if m.neq {
		x = Not{x}
	}
	return x, nil
}

// simple is an expression without the list around a single part, and without
// lists of the same kind inside each other.
func simple(x Expr) Expr {
	switch x := x.(type) {
	case And:
		return flat(x)
	case Or:
		return flat(x)
	}
	return x
}

func flat[L interface {
	And | Or
	Expr
}](list L) Expr {
	var out L
	for _, p := range list {
		if inner, ok := p.(L); ok {
			out = append(out, inner...)
		} else {
			out = append(out, p)
		}
	}
	if len(out) == 1 {
		return out[0]
	}
	return out
}
