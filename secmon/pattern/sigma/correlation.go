package sigma

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxTimespan is as long as a correlation may remember.
const maxTimespan = 366 * 24 * time.Hour

// aggregates are the types that need a field and what they do with it.
var aggregates = []string{ValueCount, ValueSum, ValueAvg, ValuePercentile}

// types are all that the specification has.
var types = []string{EventCount, ValueCount, Temporal, TemporalOrdered, ValueSum, ValueAvg, ValuePercentile}

// correlation reads a correlation section.
func (s *source) correlation(n *Node) (*Correlation, error) {
	if n.Kind != MapNode {
		return nil, s.fail(n.Pos, "a correlation is a map")
	}
	typ := n.Get("type")
	if typ == nil || typ.Kind != TextNode {
		return nil, s.fail(n.Pos, "a correlation needs a type: one of %s", strings.Join(types, ", "))
	}
	c := &Correlation{Pos: n.Pos, Type: typ.Text}
	if strings.Contains(c.Type, "_") && !slices.Contains(types, c.Type) {
		c.Extra = n // of whoever understands the type
		return c, nil
	}
	if !slices.Contains(types, c.Type) {
		return nil, s.fail(typ.Pos, "the type %q is not known: it is one of %s", c.Type, strings.Join(types, ", "))
	}
	var condition *Node
	for i, key := range n.Keys {
		v := n.List[i]
		var err error
		switch key.Text {
		case "type":
		case "rules":
			c.Rules, c.RulePos, err = s.texts(v)
		case "group-by":
			c.GroupBy, _, err = s.texts(v)
		case "timespan":
			c.Timespan, err = s.timespan(v)
		case "condition":
			condition = v
		case "aliases":
			c.Aliases, err = s.aliases(v)
		case "generate":
			if v.Kind != BoolNode {
				err = s.fail(v.Pos, "generate is true or false")
			}
			c.Generate = v.Text == "true"
		default:
			err = s.fail(key.Pos, "a correlation has no field %q", key.Text)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(c.Rules) == 0 {
		return nil, s.fail(n.Pos, "a correlation needs rules")
	}
	if c.Timespan == 0 {
		return nil, s.fail(n.Pos, "a correlation needs a timespan")
	}
	if err := s.correlationCondition(c, condition); err != nil {
		return nil, err
	}
	return c, s.aliased(c, n)
}

// correlationCondition reads what a type's number must be.
func (s *source) correlationCondition(c *Correlation, n *Node) error {
	temporal := c.Type == Temporal || c.Type == TemporalOrdered
	if n == nil {
		if !temporal {
			return s.fail(c.Pos, "a correlation of type %s needs a condition", c.Type)
		}
		// All the rules, then.
		c.Condition = []Bound{{GreaterEqual, float64(len(c.Rules))}}
		return nil
	}
	if n.Kind != MapNode {
		return s.fail(n.Pos, "a condition here is a map, as gte: 10")
	}
	for i, key := range n.Keys {
		v := n.List[i]
		if key.Text == "field" {
			fields, _, err := s.texts(v)
			if err != nil {
				return err
			}
			c.Fields = fields
			continue
		}
		if key.Text == "percentile" && c.Type == ValuePercentile {
			return s.fail(key.Pos, "the percentile is what the condition compares with, as lte: 1")
		}
		op, ok := opNames[key.Text]
		if !ok {
			return s.fail(key.Pos, "a condition has gt, gte, lt, lte, eq, neq and field, not %q", key.Text)
		}
		value, err := number(v)
		if err != nil || v.Kind != IntNode && v.Kind != FloatNode {
			return s.fail(v.Pos, "a number is needed here")
		}
		c.Condition = append(c.Condition, Bound{op, value})
	}
	switch aggregate := slices.Contains(aggregates, c.Type); {
	case aggregate && len(c.Fields) == 0:
		return s.fail(n.Pos, "a condition of type %s needs a field", c.Type)
	case !aggregate && len(c.Fields) > 0:
		return s.fail(n.Pos, "a condition of type %s has no field", c.Type)
	case aggregate && c.Type != ValueCount && len(c.Fields) > 1:
		return s.fail(n.Pos, "a condition of type %s has one field", c.Type)
	case len(c.Condition) == 0:
		return s.fail(n.Pos, "a condition needs a number, as gte: 10")
	}
	return nil
}

func (s *source) aliases(n *Node) (map[string]map[string]string, error) {
	out := make(map[string]map[string]string)
	if n.Kind != MapNode {
		return nil, s.fail(n.Pos, "aliases are a map of names")
	}
	for i, alias := range n.Keys {
		v := n.List[i]
		if v.Kind != MapNode || len(v.Keys) == 0 {
			return nil, s.fail(v.Pos, "an alias is a map of fields by rule")
		}
		fields := make(map[string]string)
		for j, rule := range v.Keys {
			if v.List[j].Kind != TextNode || v.List[j].Text == "" {
				return nil, s.fail(v.List[j].Pos, "the name of a field is needed here")
			}
			fields[rule.Text] = v.List[j].Text
		}
		out[alias.Text] = fields
	}
	return out, nil
}

// aliased checks that every alias says which field it is of every rule.
func (s *source) aliased(c *Correlation, n *Node) error {
	for alias, fields := range c.Aliases {
		at := n.Get("aliases").Get(alias).Pos
		for _, r := range c.Rules {
			if fields[r] == "" {
				return s.fail(at, "the alias %s does not say which field it is of %s", alias, r)
			}
		}
		for r := range fields {
			if !slices.Contains(c.Rules, r) {
				return s.fail(at, "the alias %s names %s, which is not one of the rules", alias, r)
			}
		}
	}
	return nil
}

// ErrTimespan says how a timespan is written.
var ErrTimespan = fmt.Errorf("a timespan is a number and one of s, m, h, d, as 10m; at most %d days", maxTimespan/(24*time.Hour))

// ParseTimespan reads a number and one of s, m, h, d. The error is
// [ErrTimespan].
func ParseTimespan(text string) (time.Duration, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	if len(text) < 2 || len(text) > 10 {
		return 0, ErrTimespan
	}
	unit, known := units[text[len(text)-1]]
	value := int64(0)
	for _, b := range []byte(text[:len(text)-1]) {
		if b < '0' || b > '9' {
			return 0, ErrTimespan
		}
		value = value*10 + int64(b-'0')
	}
	if !known || value == 0 || value > int64(maxTimespan/unit) {
		return 0, ErrTimespan
	}
	return time.Duration(value) * unit, nil
}

func (s *source) timespan(n *Node) (time.Duration, error) {
	d, err := ParseTimespan(n.Text)
	if err != nil || n.Kind != TextNode {
		return 0, s.fail(n.Pos, "%v", ErrTimespan)
	}
	return d, nil
}
