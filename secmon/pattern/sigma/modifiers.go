package sigma

import (
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds on what one value may become.
const (
	maxExpansions = 1024
	maxRegexp     = 4096 // bytes
)

// operand is one value of a field while modifiers are applied to it: several
// where a modifier made alternatives of it.
type operand struct {
	node  *Node
	raw   []string // alternatives, wildcards not yet read; until texts are made
	texts []*Text
}

// text gives the operand's alternatives as texts.
func (o *operand) text() []*Text {
	if o.texts == nil {
		for _, r := range o.raw {
			o.texts = append(o.texts, parseText(r))
		}
	}
	return o.texts
}

func (o *operand) mapTexts(f func(*Text) *Text) {
	for i, t := range o.text() {
		o.texts[i] = f(t)
	}
}

// modifiers is what the modifiers of one field say beyond its values.
type modifiers struct {
	src   *source
	pos   Pos // of the field
	names []string

	all, neq, cased bool
	where           Anchor
	anchorSet       bool
	regexp          string // flags; "re" was there if isRegexp
	isRegexp        bool
	fieldRef        bool
	exists          bool
	cidr            bool
	datePart        string
	op              Op
	compare         bool
}

// known are the modifiers by what they do: transform turns values into others,
// the rest say how they are tested.
var transforms = map[string]func(m *modifiers, o *operand, opts *Options) error{
	"windash": func(_ *modifiers, o *operand, _ *Options) error {
		o.mapTexts((*Text).withDashes)
		return nil
	},
	"wide":    utf16Modifier(binary.LittleEndian),
	"utf16le": utf16Modifier(binary.LittleEndian),
	"utf16be": utf16Modifier(binary.BigEndian),
	"utf16": func(m *modifiers, o *operand, opts *Options) error {
		if err := utf16Modifier(binary.LittleEndian)(m, o, opts); err != nil {
			return err
		}
		o.mapTexts(func(t *Text) *Text {
			return &Text{Parts: append([]Part{{Literal, "\xff\xfe"}}, t.Parts...)}
		})
		return nil
	},
	"base64": func(m *modifiers, o *operand, _ *Options) error {
		return m.encode(o, func(s string) []string {
			return []string{base64.StdEncoding.EncodeToString([]byte(s))}
		})
	},
	"base64offset": func(m *modifiers, o *operand, _ *Options) error {
		return m.encode(o, base64Offsets)
	},
	"expand": func(m *modifiers, o *operand, opts *Options) error { return m.expand(o, opts) },
}

func utf16Modifier(order binary.AppendByteOrder) func(*modifiers, *operand, *Options) error {
	return func(_ *modifiers, o *operand, _ *Options) error {
		o.mapTexts(func(t *Text) *Text {
			return t.mapLiterals(func(s string) []Part { return []Part{{Literal, asUTF16(order, s)}} })
		})
		return nil
	}
}

// encode replaces plain texts by encoded ones.
func (m *modifiers) encode(o *operand, f func(string) []string) error {
	var out []*Text
	for _, t := range o.text() {
		s, ok := t.plain()
		if !ok {
			return m.src.fail(o.node.Pos, "a value with a wildcard cannot be encoded in base64; write \\* or \\? for the character")
		}
		if s == "" {
			return m.src.fail(o.node.Pos, "an empty value cannot be encoded in base64")
		}
		codes := f(s)
		if slices.Contains(codes, "") {
			return m.src.fail(o.node.Pos, "the value is too short to be found at every place inside of base64")
		}
		for _, code := range codes {
			out = append(out, &Text{Parts: []Part{{Literal, code}}})
		}
	}
	o.texts = out
	return nil
}

var placeholder = regexp.MustCompile(`(\\?)%([A-Za-z0-9_.-]+)%|\\%`)

// expand puts the values of placeholders in.
func (m *modifiers) expand(o *operand, opts *Options) error {
	if o.texts != nil {
		return m.src.fail(m.pos, "expand comes before the modifiers that change the value")
	}
	var out []string
	for _, raw := range o.raw {
		forms := []string{""}
		for raw != "" {
			loc := placeholder.FindStringSubmatchIndex(raw)
			if loc == nil {
				forms = appendAll(forms, raw)
				break
			}
			forms = appendAll(forms, raw[:loc[0]])
			if raw[loc[0]] == '\\' { // \% is a percent sign
				forms = appendAll(forms, "%")
				raw = raw[loc[0]+2:]
				continue
			}
			name := raw[loc[4]:loc[5]]
			raw = raw[loc[1]:]
			values := opts.Placeholders[name]
			if len(values) == 0 {
				return m.src.fail(o.node.Pos, "the placeholder %%%s%% has no values here: give them, or leave the rule out", name)
			}
			if len(forms)*len(values) > maxExpansions {
				return m.src.fail(o.node.Pos, "placeholders make more than %d values of one", maxExpansions)
			}
			var next []string
			for _, v := range values {
				next = append(next, appendAll(forms, v)...)
			}
			forms = next
		}
		out = append(out, forms...)
	}
	o.raw = out
	return nil
}

// appendAll gives each form with s behind it.
func appendAll(forms []string, s string) []string {
	out := make([]string, len(forms))
	for i, f := range forms {
		out[i] = f + s
	}
	return out
}

// read sorts the modifiers of a field; which only concern values are left to
// apply, in order.
func (m *modifiers) read() (transform []string, err error) {
	bad := func(format string, args ...any) ([]string, error) { return nil, m.src.fail(m.pos, format, args...) }
	for i, name := range m.names {
		if slices.Contains(m.names[:i], name) && transforms[name] == nil {
			return bad("the modifier %s is there twice", name)
		}
		switch name {
		case "all":
			m.all = true
		case "neq":
			m.neq = true
		case "cased":
			m.cased = true
		case "contains", "startswith", "endswith":
			if m.anchorSet {
				return bad("only one of contains, startswith and endswith")
			}
			m.anchorSet = true
			m.where = map[string]Anchor{"contains": Anywhere, "startswith": Prefix, "endswith": Suffix}[name]
		case "re":
			m.isRegexp = true
		case "i", "m", "s":
			if !m.isRegexp {
				return bad("the modifier %s comes behind re", name)
			}
			m.regexp += name
		case "fieldref":
			m.fieldRef = true
		case "exists":
			m.exists = true
		case "cidr":
			m.cidr = true
		case "lt", "lte", "gt", "gte":
			if m.compare {
				return bad("only one of lt, lte, gt and gte; use two search identifiers for a range")
			}
			m.compare, m.op = true, opNames[name]
		case "minute", "hour", "day", "week", "month", "year":
			if m.datePart != "" {
				return bad("only one part of a time")
			}
			m.datePart = name
		case "":
			return bad("a modifier is missing behind |")
		default:
			if transforms[name] == nil {
				return bad("the modifier %q is not known", name)
			}
			transform = append(transform, name)
		}
	}
	return transform, m.compatible(transform)
}

// compatible refuses modifiers that make no sense together.
func (m *modifiers) compatible(transform []string) error {
	kinds := []struct {
		is   bool
		name string
	}{
		{m.isRegexp, "re"}, {m.fieldRef, "fieldref"}, {m.exists, "exists"}, {m.cidr, "cidr"},
		{m.compare || m.datePart != "", "a comparison"},
	}
	found := ""
	for _, k := range kinds {
		if !k.is {
			continue
		}
		if found != "" {
			return m.src.fail(m.pos, "%s and %s do not go together", found, k.name)
		}
		found = k.name
	}
	onlyExpand := !slices.ContainsFunc(transform, func(t string) bool { return t != "expand" })
	switch {
	case found == "":
	case found == "re" && (m.cased || m.anchorSet || !onlyExpand):
		return m.src.fail(m.pos, "re goes with i, m, s, all, neq and expand alone; it is matched anywhere and with case")
	case found == "exists" && len(m.names) > 1:
		return m.src.fail(m.pos, "exists stands alone")
	case found == "fieldref" && len(transform) > 0,
		(found == "cidr" || found == "a comparison") && (m.cased || m.anchorSet || !onlyExpand):
		return m.src.fail(m.pos, "%s does not go with %s", found, strings.Join(m.names, "|"))
	}
	return nil
}

// tests makes the tests of one value: alternatives.
func (m *modifiers) tests(n *Node, transform []string, opts *Options) ([]Test, error) {
	if n.Kind == ListNode || n.Kind == MapNode {
		return nil, m.src.fail(n.Pos, "a value is needed here, not %v", n.Kind)
	}
	if m.exists {
		if n.Kind != BoolNode {
			return nil, m.src.fail(n.Pos, "exists is true or false")
		}
		return []Test{Exists(n.Text == "true")}, nil
	}
	if n.Kind == NullNode {
		if len(m.names) > 0 && !(len(m.names) == 1 && (m.neq || m.all)) {
			return nil, m.src.fail(n.Pos, "null has no modifiers but neq")
		}
		return []Test{Null{}}, nil
	}
	plain := len(transform) == 0 && !m.anchorSet && !m.isRegexp && !m.fieldRef && !m.cidr && m.datePart == ""
	if (n.Kind == IntNode || n.Kind == FloatNode) && plain || m.compare && m.datePart == "" {
		v, err := number(n)
		if err != nil {
			return nil, m.src.fail(n.Pos, "a number is needed here")
		}
		return []Test{Compare{m.op, v}}, nil
	}
	o := &operand{node: n, raw: []string{n.Text}}
	for _, name := range transform {
		if err := transforms[name](m, o, opts); err != nil {
			return nil, err
		}
	}
	return m.finish(o)
}

// finish makes the tests of an operand whose values are ready.
func (m *modifiers) finish(o *operand) (tests []Test, err error) {
	switch {
	case m.isRegexp:
		return m.each(o, m.expression)
	case m.cidr:
		return m.each(o, m.network)
	case m.datePart != "":
		return m.each(o, m.date)
	case m.fieldRef:
		return []Test{FieldRef{o.node.Text, m.where, m.cased}}, nil
	}
	for _, t := range o.text() {
		t = t.anchored(m.where)
		t.Cased = m.cased
		tests = append(tests, t.finished())
	}
	return tests, nil
}

func (m *modifiers) each(o *operand, f func(*operand, string) (Test, error)) (tests []Test, err error) {
	for _, raw := range o.raw {
		t, err := f(o, raw)
		if err != nil {
			return nil, err
		}
		tests = append(tests, t)
	}
	return tests, nil
}

// expression compiles a regular expression. The specification's flavour is a
// part of both PCRE and RE2; what RE2 cannot do in linear time is refused.
func (m *modifiers) expression(o *operand, raw string) (Test, error) {
	if len(raw) > maxRegexp {
		return nil, m.src.fail(o.node.Pos, "a regular expression of more than %d bytes", maxRegexp)
	}
	if m.regexp != "" {
		raw = "(?" + m.regexp + ")" + raw
	}
	re, err := regexp.Compile(raw)
	if err != nil {
		return nil, m.src.fail(o.node.Pos, "%v", err)
	}
	return &Regexp{re}, nil
}

func (m *modifiers) network(o *operand, raw string) (Test, error) {
	p, err := netip.ParsePrefix(raw)
	if err != nil {
		if a, aerr := netip.ParseAddr(raw); aerr == nil {
			p, err = a.Prefix(a.BitLen())
		}
	}
	if err != nil {
		return nil, m.src.fail(o.node.Pos, "a network is needed here, as 10.0.0.0/8 or fe80::/10")
	}
	return CIDR{p.Masked()}, nil
}

func (m *modifiers) date(o *operand, raw string) (Test, error) {
	v, err := strconv.Atoi(raw)
	if err != nil {
		return nil, m.src.fail(o.node.Pos, "a %s is a number", m.datePart)
	}
	return DatePart{m.datePart, m.op, v}, nil
}

// number is the value of a number node, or of a text that is one.
func number(n *Node) (float64, error) {
	s := strings.ReplaceAll(n.Text, "_", "")
	if v, err := strconv.ParseInt(s, 0, 64); err == nil {
		return float64(v), nil
	}
	return strconv.ParseFloat(s, 64)
}
