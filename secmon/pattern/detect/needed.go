package detect

import (
	"regexp/syntax"
	"slices"

	"warder/secmon/pattern/literal"
	"warder/secmon/pattern/sigma"
)

// need is a literal that must be in a field.
type need struct {
	field int
	key   string
}

// needed gives literals of which one must be there for n to hold; ok is false
// where there are none.
func needed(n node) (needs []need, ok bool) {
	switch n := n.(type) {
	case textual:
		key := ""
		for _, p := range n.test.Parts {
			if p.Kind != sigma.Literal {
				continue
			}
			if k := literal.Key(sigma.Fold(p.Literal)); len(k) > len(key) {
				key = k
			}
		}
		return []need{{n.field, key}}, key != ""
	case regexped:
		re, err := syntax.Parse(n.test.String(), syntax.Perl)
		if err != nil {
			return nil, false
		}
		key := literal.Key(sigma.Fold(longest(re.Simplify())))
		return []need{{n.field, key}}, key != ""
	case and:
		for _, x := range n {
			if more, found := needed(x); found && (!ok || better(more, needs)) {
				needs, ok = more, true
			}
		}
		return needs, ok
	case or:
		for _, x := range n {
			more, found := needed(x)
			if !found {
				return nil, false
			}
			needs = append(needs, more...)
		}
		return needs, len(needs) > 0
	}
	return nil, false
}

// better says whether a will be found less often than b: its shortest literal
// is longer, or there are fewer.
func better(a, b []need) bool {
	la, lb := shortest(a), shortest(b)
	if la != lb {
		return la > lb
	}
	return len(a) < len(b)
}

func shortest(needs []need) int {
	n := literal.Max
	for _, x := range needs {
		n = min(n, len(x.key))
	}
	return n
}

// longest is the longest literal that is in everything the expression matches.
func longest(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpLiteral:
		return string(re.Rune)
	case syntax.OpCapture, syntax.OpPlus:
		return longest(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return longest(re.Sub[0])
		}
	case syntax.OpConcat:
		best := ""
		for _, sub := range re.Sub {
			if s := longest(sub); len(s) > len(best) {
				best = s
			}
		}
		return best
	}
	return ""
}

// Values gives texts of which one must be the whole value of one of the fields
// for x to hold; ok is false where x does not say.
func Values(x sigma.Expr, fields ...string) (values []string, ok bool) {
	switch x := x.(type) {
	case sigma.And:
		for _, p := range x {
			if more, found := Values(p, fields...); found && (!ok || len(more) < len(values)) {
				values, ok = more, true
			}
		}
		return values, ok
	case sigma.Or:
		for _, p := range x {
			more, found := Values(p, fields...)
			if !found {
				return nil, false
			}
			values = append(values, more...)
		}
		return values, len(x) > 0
	case *sigma.Match:
		t, isText := x.Test.(*sigma.Text)
		if !isText || !slices.Contains(fields, x.Field) {
			return nil, false
		}
		literal, where, simple := t.Simple()
		return []string{literal}, simple && where == sigma.Whole
	}
	return nil, false
}

// LooksAt says whether x tests a field by its name or, by a keyword, the texts of a
// whole record.
func LooksAt(x sigma.Expr, field string) bool {
	found := false
	each(x, func(m *sigma.Match) { found = found || m.Field == field || m.Field == "" })
	return found
}
