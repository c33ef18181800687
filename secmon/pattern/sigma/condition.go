package sigma

import (
	"slices"
	"strings"
)

// maxConditionDepth bounds how deep brackets and nots may be.
const maxConditionDepth = 100

// detection resolves the names in conditions.
type detection struct {
	src      *source
	names    []*Node // search identifiers in the order of the file
	searches map[string]Expr
	used     map[string]bool
}

// conditions reads one condition or a list of alternatives.
func (d *detection) conditions(n *Node) (Expr, error) {
	list := []*Node{n}
	if n.Kind == ListNode {
		list = n.List
	}
	var or Or
	for _, c := range list {
		if c.Kind != TextNode || c.Text == "" {
			return nil, d.src.fail(c.Pos, "a condition is a text")
		}
		x, err := d.condition(c)
		if err != nil {
			return nil, err
		}
		or = append(or, x)
	}
	if len(or) == 0 {
		return nil, d.src.fail(n.Pos, "a condition is needed")
	}
	return simple(or), nil
}

func (d *detection) condition(n *Node) (Expr, error) {
	p := &conditionParser{detection: d, node: n}
	if err := p.split(); err != nil {
		return nil, err
	}
	x, err := p.or(0)
	if err != nil {
		return nil, err
	}
	if !p.end() {
		if p.word() == "|" {
			return nil, p.fail("aggregations in conditions are of Sigma before 2.0: use a correlation rule")
		}
		return nil, p.fail("and, or, or the end is needed here, not %q", p.word())
	}
	return x, nil
}

// conditionParser reads: or = and {"or" and}; and = not {"and" not};
// not = {"not"} term; term = "(" or ")" | ("1"|"any"|"all") "of" pattern | name.
type conditionParser struct {
	*detection
	node   *Node
	tokens []token
	at     int
}

type token struct {
	text   string
	offset int
}

func (p *conditionParser) split() error {
	text := p.node.Text
	for i := 0; i < len(text); {
		switch b := text[i]; {
		case strings.IndexByte(" \t\r\n", b) >= 0:
			i++
		case b == '(' || b == ')' || b == '|':
			p.tokens = append(p.tokens, token{text[i : i+1], i})
			i++
		default:
			n := strings.IndexAny(text[i:], " \t\r\n()|")
			if n < 0 {
				n = len(text) - i
			}
			p.tokens = append(p.tokens, token{text[i : i+n], i})
			i += n
		}
	}
	p.tokens = append(p.tokens, token{"", len(text)})
	return nil
}

func (p *conditionParser) end() bool { return p.at == len(p.tokens)-1 }

func (p *conditionParser) word() string { return p.tokens[p.at].text }

// keyword says whether the next word is one of the language's, and takes it.
func (p *conditionParser) keyword(k string) bool {
	if p.end() || !strings.EqualFold(p.word(), k) {
		return false
	}
	p.at++
	return true
}

// fail points at the current word. In a text of several lines, where the place
// of a word is not known, it points at the text.
func (p *conditionParser) fail(format string, args ...any) error {
	at := p.node.Pos
	if line := at.Line - 1; line < len(p.src.lines) {
		text := p.src.lines[line]
		if i := strings.Index(text, p.node.Text); i >= 0 && !strings.Contains(p.node.Text, "\n") {
			at.Column = i + p.tokens[p.at].offset + 1
		}
	}
	return p.src.fail(at, format, args...)
}

func (p *conditionParser) or(depth int) (Expr, error) {
	if depth > maxConditionDepth {
		return nil, p.fail("nested too deep")
	}
	var or Or
	for {
		x, err := p.and(depth)
		if err != nil {
			return nil, err
		}
		or = append(or, x)
		if !p.keyword("or") {
			return simple(or), nil
		}
	}
}

func (p *conditionParser) and(depth int) (Expr, error) {
	var and And
	for {
		x, err := p.not(depth)
		if err != nil {
			return nil, err
		}
		and = append(and, x)
		if !p.keyword("and") {
			return simple(and), nil
		}
	}
}

func (p *conditionParser) not(depth int) (Expr, error) {
	negated := false
	for p.keyword("not") {
		negated = !negated
	}
	x, err := p.term(depth)
	if err == nil && negated {
		x = Not{x}
	}
	return x, err
}

func (p *conditionParser) term(depth int) (Expr, error) {
	if p.keyword("(") {
		x, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.keyword(")") {
			return nil, p.fail("a closing bracket is missing")
		}
		return x, nil
	}
	if p.end() || slices.Contains([]string{")", "|", "and", "or", "of"}, strings.ToLower(p.word())) {
		return nil, p.fail("a search identifier is missing")
	}
	name := p.word()
	if next := p.tokens[min(p.at+1, len(p.tokens)-1)]; strings.EqualFold(next.text, "of") {
		return p.some(name)
	}
	x, ok := p.searches[name]
	if !ok {
		return nil, p.fail("there is no search identifier %q", name)
	}
	p.used[name] = true
	p.at++
	return x, nil
}

// some reads "1 of ..." and its like.
func (p *conditionParser) some(quantity string) (Expr, error) {
	all := strings.EqualFold(quantity, "all")
	if !all && quantity != "1" && !strings.EqualFold(quantity, "any") {
		return nil, p.fail("only 1, any or all of them")
	}
	p.at += 2
	if p.end() {
		return nil, p.fail("them, or the name of search identifiers, is missing")
	}
	pattern := p.word()
	wanted := parseText(pattern)
	var found []Expr
	for _, key := range p.names {
		matches := wanted.Match(key.Text)
		if strings.EqualFold(pattern, "them") {
			matches = !strings.HasPrefix(key.Text, "_")
		}
		if matches {
			found = append(found, p.searches[key.Text])
			p.used[key.Text] = true
		}
	}
	if len(found) == 0 {
		return nil, p.fail("no search identifier is named %s", pattern)
	}
	p.at++
	if all {
		return simple(And(found)), nil
	}
	return simple(Or(found)), nil
}
