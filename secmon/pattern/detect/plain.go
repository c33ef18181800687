package detect

import (
	"warder/secmon/event"
	"warder/secmon/pattern/record"
	"warder/secmon/pattern/sigma"
)

// Plain evaluates one rule on an event the long way round, straight from the rule
// as it was read. It is what a [Program] must agree with, and what it is measured
// against: engines that try one rule after the other do no better.
func Plain(r *sigma.Rule, e *event.Event) bool {
	from, _ := record.Select(r.Source)
	for _, rec := range record.Of(e, nil) {
		for _, k := range from.Kinds {
			if rec.Kind == k && from.Has(rec) && plainExpr(r.Detection.Expr, rec) {
				return true
			}
		}
	}
	return false
}

func plainExpr(x sigma.Expr, r record.Record) bool {
	switch x := x.(type) {
	case sigma.And:
		for _, p := range x {
			if !plainExpr(p, r) {
				return false
			}
		}
		return true
	case sigma.Or:
		for _, p := range x {
			if plainExpr(p, r) {
				return true
			}
		}
		return false
	case sigma.Not:
		return !plainExpr(x.X, r)
	}
	m := x.(*sigma.Match)
	if m.Field == "" {
		for _, name := range r.Kind.Texts() {
			if plainTest(&sigma.Match{Field: name, Test: m.Test}, r) {
				return true
			}
		}
		return false
	}
	return plainTest(m, r)
}

func plainTest(m *sigma.Match, r record.Record) bool {
	get := func(name string) record.Value {
		if f, ok := r.Kind.Field(name); ok {
			return f.Value(r.Event)
		}
		return record.Value{}
	}
	v := get(m.Field)
	fold := func(cased bool, s string) string {
		if cased {
			return s
		}
		return sigma.Fold(s)
	}
	switch t := m.Test.(type) {
	case sigma.Null:
		return v.State != record.Present
	case sigma.Exists:
		return (v.State != record.Absent) == bool(t)
	}
	if v.State == record.Absent {
		return false
	}
	switch t := m.Test.(type) {
	case *sigma.Text:
		return t.Match(fold(t.Cased, v.String()))
	case *sigma.Regexp:
		return t.MatchString(v.String())
	case sigma.FieldRef:
		o := get(t.Field)
		return o.State != record.Absent && t.Where.Match(fold(t.Cased, v.String()), fold(t.Cased, o.String()))
	}
	// These have one evaluation only; it is tested by itself.
	s := &state{epoch: 1, values: []value{{epoch: 1, value: v}}}
	switch t := m.Test.(type) {
	case sigma.CIDR:
		return inNetwork{0, t}.eval(s)
	case sigma.Compare:
		return compared{0, t}.eval(s)
	case sigma.DatePart:
		return dated{0, t}.eval(s)
	}
	panic("a test that is not known")
}
