package detect

import (
	"fmt"

	"warder/secmon/pattern/record"
	"warder/secmon/pattern/sigma"
)

// Held counts the tests of an expression that a record satisfies, of all that
// it must, and names the first that it does not: an alternative counts as its
// nearest.
func Held(x sigma.Expr, r record.Record) (held, total int, failed string) {
	switch x := x.(type) {
	case sigma.And:
		for _, p := range x {
			h, t, f := Held(p, r)
			held, total = held+h, total+t
			if failed == "" {
				failed = f
			}
		}
		return held, total, failed
	case sigma.Or:
		for i, p := range x {
			h, t, f := Held(p, r)
			if i == 0 || h*total > held*t {
				held, total, failed = h, t, f
			}
		}
		return held, total, failed
	case sigma.Not:
		if h, t, _ := Held(x.X, r); h == t {
			return 0, 1, "the exception that it makes"
		}
		return 1, 1, ""
	}
	m := x.(*sigma.Match)
	if holds(m, r) {
		return 1, 1, ""
	}
	return 0, 1, fmt.Sprintf("%s (line %d), which is %q", name(m), m.Pos.Line, content(m, r))
}

func name(m *sigma.Match) string {
	if m.Field == "" {
		return "the keyword"
	}
	return m.Field
}

func content(m *sigma.Match, r record.Record) string {
	fields := []string{m.Field}
	if m.Field == "" {
		fields = r.Kind.Texts()
	}
	if len(fields) == 0 {
		return ""
	}
	f, ok := r.Kind.Field(fields[0])
	if !ok {
		return ""
	}
	return f.Value(r.Event).String()
}

// holds evaluates one test by itself.
func holds(m *sigma.Match, r record.Record) bool {
	c := newCompiler()
	n := c.expr(r.Kind, m)
	s := c.program.newState()
	s.begin(r.Event)
	return n.eval(s)
}
