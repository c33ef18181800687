package sigma

import (
	"net/netip"
	"regexp"
)

// Expr is a condition on one event: [And], [Or], [Not] or [*Match].
type Expr interface{ isExpr() }

type (
	// And holds where all of its parts do; an empty one always.
	And []Expr
	// Or holds where one of its parts does; an empty one never.
	Or []Expr
	// Not holds where X does not.
	Not struct{ X Expr }
	// Match is a test of one field. It does not hold where the event has no
	// such field, but for the tests [Null] and [Exists].
	Match struct {
		Field string // "" for a keyword, which is looked for in the whole event
		Test  Test
		Pos   Pos
	}
)

func (And) isExpr()    {}
func (Or) isExpr()     {}
func (Not) isExpr()    {}
func (*Match) isExpr() {}

// Test is what a field's value must be like: [*Text], [*Regexp], [CIDR],
// [Compare], [DatePart], [Null], [Exists] or [FieldRef].
type Test interface{ isTest() }

type (
	// Regexp searches the value for an expression; anchors are the
	// expression's own.
	Regexp struct{ *regexp.Regexp }
	// CIDR holds for addresses in a network.
	CIDR struct{ netip.Prefix }
	// Compare compares the value, as a number, with another.
	Compare struct {
		Op    Op
		Value float64
	}
	// DatePart compares a part of a time with a number.
	DatePart struct {
		Part  string // minute, hour, day, week, month, year
		Op    Op
		Value int
	}
	// Null holds where the event has no such field, or no value for it.
	Null struct{}
	// Exists holds where the event has the field, or has not.
	Exists bool
	// FieldRef compares the value with that of another field of the event.
	FieldRef struct {
		Field string
		// Where the other value must be in this one.
		Where Anchor
		Cased bool
	}
)

func (*Text) isTest()    {}
func (*Regexp) isTest()  {}
func (CIDR) isTest()     {}
func (Compare) isTest()  {}
func (DatePart) isTest() {}
func (Null) isTest()     {}
func (Exists) isTest()   {}
func (FieldRef) isTest() {}

// Anchor says where in a value a text must be found.
type Anchor uint8

const (
	Whole Anchor = iota
	Prefix
	Suffix
	Anywhere
)

// Op is a comparison.
type Op uint8

const (
	Equal Op = iota
	NotEqual
	Less
	LessEqual
	Greater
	GreaterEqual
)

var opNames = map[string]Op{
	"eq": Equal, "neq": NotEqual, "lt": Less, "lte": LessEqual, "gt": Greater, "gte": GreaterEqual,
}

func (o Op) String() string { return [...]string{"eq", "neq", "lt", "lte", "gt", "gte"}[o] }

// Holds says whether a compares with b.
func (o Op) Holds(a, b float64) bool {
	switch o {
	case Equal:
		return a == b
	case NotEqual:
		return a != b
	case Less:
		return a < b
	case LessEqual:
		return a <= b
	case Greater:
		return a > b
	default:
		return a >= b
	}
}

// Bound is one side of a correlation's condition.
type Bound struct {
	Op    Op
	Value float64
}

// Hold says whether n is within all bounds.
func Hold(bounds []Bound, n float64) bool {
	for _, b := range bounds {
		if !b.Op.Holds(n, b.Value) {
			return false
		}
	}
	return true
}
