package sigma

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func encoded(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// rule is a detection rule around a detection section.
func rule(detection string) string {
	return "title: t\nlogsource:\n    product: linux\ndetection:\n" + indent(detection)
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ") + "\n"
}

func parse(t *testing.T, text string, opts Options) []*Rule {
	t.Helper()
	rules, err := Parse("test.yml", []byte(text), opts)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// write gives an expression in a form to compare with.
func write(x Expr) string {
	join := func(word string, parts []Expr) string {
		var out []string
		for _, p := range parts {
			out = append(out, write(p))
		}
		return "(" + strings.Join(out, " "+word+" ") + ")"
	}
	switch x := x.(type) {
	case And:
		return join("and", x)
	case Or:
		return join("or", x)
	case Not:
		return "not " + write(x.X)
	case *Match:
		return x.Field + writeTest(x.Test)
	}
	panic(x)
}

func writeTest(t Test) string {
	switch t := t.(type) {
	case *Text:
		s := "="
		if t.Cased {
			s = "=="
		}
		for _, p := range t.Parts {
			s += map[PartKind]string{Literal: fmt.Sprintf("%q", p.Literal), One: "?", Many: "*", Dash: "/-"}[p.Kind]
		}
		return s
	case *Regexp:
		return "~" + t.String()
	case CIDR:
		return " in " + t.String()
	case Compare:
		return fmt.Sprintf(" %v %v", t.Op, t.Value)
	case DatePart:
		return fmt.Sprintf(" %s %v %d", t.Part, t.Op, t.Value)
	case Null:
		return " null"
	case Exists:
		return fmt.Sprintf(" exists %v", bool(t))
	case FieldRef:
		return fmt.Sprintf(" field %s %d %v", t.Field, t.Where, t.Cased)
	}
	panic(t)
}

func TestDetections(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		// Values, lists, maps.
		{"s:\n  A: x\ncondition: s", `A="x"`},
		{"s:\n  A: ''\ncondition: s", `A=`},
		{"s:\n  A: X*?\ncondition: s", `A="x"*?`},
		{"s:\n  A: [x, y]\n  B: z\ncondition: s", `((A="x" or A="y") and B="z")`},
		{"s:\n  - A: x\n  - B: y\n    C: z\ncondition: s", `(A="x" or (B="y" and C="z"))`},
		{"s:\n  A: 10\ncondition: s", `A eq 10`},
		{"s:\n  A: 0x10\ncondition: s", `A eq 16`},
		{"s:\n  A: '10'\ncondition: s", `A="10"`},
		{"s:\n  A: true\ncondition: s", `A="true"`},
		{"s:\n  A: null\ncondition: s", `A null`},
		{"s:\n  A:\ncondition: s", `A null`},
		{"s:\n  A|neq: null\ncondition: s", `not A null`},
		// Keywords.
		{"s:\n  - one\n  - 2\ncondition: s", `(=*"one"* or =*"2"*)`},
		{"s: one\ncondition: s", `=*"one"*`},
		{"s:\n  '|all': [one, two]\ncondition: s", `(=*"one"* and =*"two"*)`},
		{"s:\n  '|re': o.e\ncondition: s", `~o.e`},
		{"s:\n  - one\n  - A: x\ncondition: s", `(=*"one"* or A="x")`},
		// Anchors and what they do with wildcards.
		{"s:\n  A|contains: x\ncondition: s", `A=*"x"*`},
		{"s:\n  A|contains: '*x*'\ncondition: s", `A=*"x"*`},
		{"s:\n  A|startswith: x\ncondition: s", `A="x"*`},
		{"s:\n  A|endswith: x\ncondition: s", `A=*"x"`},
		{"s:\n  A|contains: 22\ncondition: s", `A=*"22"*`},
		{"s:\n  A|contains|all: [x, y]\ncondition: s", `(A=*"x"* and A=*"y"*)`},
		{"s:\n  A|cased: Xy\ncondition: s", `A=="Xy"`},
		{"s:\n  A|neq: [x, y]\ncondition: s", `not (A="x" or A="y")`},
		// Types.
		{"s:\n  A|re: '^a.c$'\ncondition: s", `A~^a.c$`},
		{"s:\n  A|re|i|m|s: a\ncondition: s", `A~(?ims)a`},
		{"s:\n  A|cidr: 10.1.2.3/8\ncondition: s", `A in 10.0.0.0/8`},
		{"s:\n  A|cidr: ['fe80::/10', 127.0.0.1]\ncondition: s", `(A in fe80::/10 or A in 127.0.0.1/32)`},
		{"s:\n  A|gte: 5\n  B|lt: 2.5\ncondition: s", `(A gte 5 and B lt 2.5)`},
		{"s:\n  A|hour: 3\ncondition: s", `A hour eq 3`},
		{"s:\n  A|hour|gte: 18\ncondition: s", `A hour gte 18`},
		{"s:\n  A|exists: false\ncondition: s", `A exists false`},
		{"s:\n  A|fieldref: B\ncondition: s", `A field B 0 false`},
		{"s:\n  A|fieldref|endswith|neq: B\ncondition: s", `not A field B 2 false`},
		// Transformations, in order.
		{"s:\n  A|windash|contains: ' -x/y'\ncondition: s", `A=*" "/-"x"/-"y"*`},
		{"s:\n  A|base64|cased: abc\ncondition: s", `A=="YWJj"`},
		{"s:\n  A|base64offset|contains|cased: abc\ncondition: s", `(A==*"YWJj"* or A==*"FiY"* or A==*"hYm"*)`},
		{"s:\n  A|wide|base64|cased: ab\ncondition: s", `A=="YQBiAA=="`},
		{"s:\n  A|utf16le: 'a*b'\ncondition: s", `A="a\x00"*"b\x00"`},
		{"s:\n  A|utf16be: a\ncondition: s", `A="\x00a"`},
		{"s:\n  A|utf16|cased: a\ncondition: s", `A=="\xff\xfea\x00"`},
		// Conditions.
		{"a: x\nb: y\nc: z\ncondition: a or b and not c", `(=*"x"* or (=*"y"* and not =*"z"*))`},
		{"a: x\nb: y\nc: z\ncondition: (a or b) and c", `((=*"x"* or =*"y"*) and =*"z"*)`},
		{"a: x\ncondition: not not a", `=*"x"*`},
		{"a: x\ncondition: NOT a", `not =*"x"*`},
		{"a1: x\na2: y\nb: z\ncondition: 1 of a* and b", `((=*"x"* or =*"y"*) and =*"z"*)`},
		{"a1: x\na2: y\ncondition: all of a*", `(=*"x"* and =*"y"*)`},
		{"a_x_1: x\na_y_2: y\nb: z\ncondition: any of a_*_* or b", `(=*"x"* or =*"y"* or =*"z"*)`},
		{"a: x\nb: y\n_c: z\ncondition: all of them", `(=*"x"* and =*"y"*)`},
		{"a: x\nb: y\ncondition:\n  - a\n  - b", `(=*"x"* or =*"y"*)`},
		{"a: x\nb: y\ncondition: a and(not(b))", `(=*"x"* and not =*"y"*)`},
		{"and1: x\ncondition: and1", `=*"x"*`},
	} {
		rules, err := Parse("test.yml", []byte(rule(c.in)), Options{})
		if err != nil {
			t.Errorf("%s\n%v", c.in, err)
			continue
		}
		if got := write(rules[0].Detection.Expr); got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.in, got, c.want)
		}
	}
}

func TestPlaceholders(t *testing.T) {
	opts := Options{Placeholders: map[string][]string{"admins": {"root", "adm*"}, "dirs": {"/tmp", "/var"}}}
	for _, c := range []struct{ in, want string }{
		{"A|expand: '%admins%'", `(A="root" or A="adm"*)`},
		{"A|expand|startswith: '%dirs%/%admins%'", `(A="/tmp/root"* or A="/var/root"* or A="/tmp/adm"* or A="/var/adm"*)`},
		{`A|expand: '\%admins%dirs%'`, `(A="%admins/tmp" or A="%admins/var")`},
		{"A: '%admins%'", `A="%admins%"`},
	} {
		got := write(parse(t, rule("s:\n  "+c.in+"\ncondition: s"), opts)[0].Detection.Expr)
		if got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.in, got, c.want)
		}
	}
}

// Each fault is refused with its reason, at its place: what ^ stands under.
func TestFaults(t *testing.T) {
	for _, c := range []struct{ in, at, want string }{
		{rule("s:\n  A|like: x\ncondition: s"), "A|like", `"like" is not known`},
		{rule("s:\n  A|i: x\ncondition: s"), "A|i", "behind re"},
		{rule("s:\n  A|re: '(?=x)'\ncondition: s"), "'(?=x)'", "invalid or unsupported Perl syntax"},
		{rule("s:\n  A|re|contains: x\ncondition: s"), "A|re", "re goes with"},
		{rule("s:\n  A|cidr: x\ncondition: s"), "x", "a network is needed"},
		{rule("s:\n  A|gt: x\ncondition: s"), "x", "a number is needed"},
		{rule("s:\n  A|exists: x\ncondition: s"), "x", "true or false"},
		{rule("s:\n  A|expand: '%x%'\ncondition: s"), "'%x%'", "placeholder %x% has no values"},
		{rule("s:\n  A|base64: 'a*'\ncondition: s"), "'a*'", "wildcard"},
		{rule("s:\n  A|base64offset: a\ncondition: s"), "a\n", "too short"},
		{rule("s:\n  A: [x, null]\ncondition: s"), "null]", "null cannot be"},
		{rule("s:\n  A: []\ncondition: s"), "[]", "empty list"},
		{rule("s:\n  A:\n    B: x\ncondition: s"), "B: x", "a value is needed"},
		{rule("s: x\ncondition: s and"), "", "missing"},
		{rule("s: x\ncondition: s or t"), "t\n", `no search identifier "t"`},
		{rule("s: x\ncondition: (s"), "", "closing bracket"},
		{rule("s: x\ncondition: s)"), ")\n", "the end is needed"},
		{rule("s: x\ncondition: 2 of s*"), "2 of", "only 1, any or all"},
		{rule("s: x\ncondition: 1 of t*"), "t*", "is named t*"},
		{rule("s: x\ncondition: s | count() > 5"), "| count", "correlation rule"},
		{rule("s: x\nt: y\ncondition: s"), "t: y", `does not use "t"`},
		{rule("s: x\ntimeframe: 5m\ncondition: s"), "timeframe", "correlation rule"},
		{rule("s: x"), "s: x", "a condition is needed"},
		{rule("s: x\ns: y\ncondition: s"), "s: y", "already defined"},
		{"title: t\ndetection:\n  s: x\n  condition: s\n", "title", "needs a logsource"},
		{"title: t\nid: 7\nlogsource: {product: linux}\ndetection: {s: x, condition: s}\n", "7", "UUID"},
		{"title: t\nlevel: huge\nlogsource: {product: linux}\ndetection: {s: x, condition: s}\n", "huge", "level is one of"},
		{"logsource: {product: linux}\ndetection: {s: x, condition: s}\n", "logsource", "needs a title"},
		{"title: t\n", "title", "one of detection, correlation and filter"},
		{"- a\n", "- a", "a rule is a map"},
		{"", "", "no rule"},
		{"title: [\n", "", ""},
		{correlation("type: event_count\nrules: [a]\ntimespan: 5m"), "type: event", "needs a condition"},
		{correlation("type: event\nrules: [a]\ntimespan: 5m"), "event\n", `"event" is not known`},
		{correlation("type: event_count\nrules: [a]\ntimespan: 5\ncondition: {gte: 2}"), "5\n", "a timespan is"},
		{correlation("type: event_count\nrules: [a]\ntimespan: 5m\ncondition: {over: 2}"), "over", "gt, gte"},
		{correlation("type: value_count\nrules: [a]\ntimespan: 5m\ncondition: {gte: 2}"), "", "needs a field"},
		{correlation("type: temporal\nrules: [a]\ntimespan: 5m\naliases: {x: {b: y}}"), "b: y", "does not say which field"},
		{correlation("type: temporal\ntimespan: 5m"), "type: temp", "needs rules"},
	} {
		_, err := Parse("test.yml", []byte(c.in), Options{})
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Errorf("%s\nerror %v", c.in, err)
			continue
		}
		if !strings.Contains(e.Message, c.want) {
			t.Errorf("%s\nmessage %q, want %q", c.in, e.Message, c.want)
		}
		line := strings.SplitAfter(c.in, "\n")[e.Line-1]
		if e.Column > len(line)+1 || !strings.HasPrefix(line[e.Column-1:], c.at) {
			t.Errorf("%s\nthe error points elsewhere, want %q:\n%v", c.in, c.at, err)
		}
	}
}

func correlation(section string) string {
	return "title: c\ncorrelation:\n" + indent(section)
}

func TestCorrelations(t *testing.T) {
	got := parse(t, correlation(`
type: value_count
rules: [a, b]
group-by: [User, src]
timespan: 90m
aliases:
  src:
    a: SourceIp
    b: ClientIp
condition:
  field: [Image, CommandLine]
  gt: 100
  lte: 200
generate: true`), Options{})[0].Correlation
	want := &Correlation{
		Type: ValueCount, Rules: []string{"a", "b"}, GroupBy: []string{"User", "src"}, Timespan: 90 * time.Minute,
		Condition: []Bound{{Greater, 100}, {LessEqual, 200}}, Fields: []string{"Image", "CommandLine"},
		Aliases:  map[string]map[string]string{"src": {"a": "SourceIp", "b": "ClientIp"}},
		Generate: true,
	}
	got.Pos, got.RulePos = Pos{}, nil
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// All rules of a temporal correlation, unless it says otherwise.
	c := parse(t, correlation("type: temporal\nrules: [a, b, c]\ntimespan: 1d"), Options{})[0].Correlation
	if d := cmp.Diff([]Bound{{GreaterEqual, 3}}, c.Condition); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestLink(t *testing.T) {
	named := func(name, rest string) string { return "title: " + name + "\nname: " + name + "\n" + rest }
	plain := func(name string) string {
		return named(name, "logsource: {product: linux}\ndetection: {s: "+name+", condition: s}\n")
	}
	corr := func(name, rules string, more ...string) string {
		return named(name, "correlation: {type: temporal, rules: "+rules+", timespan: 5m"+strings.Join(more, "")+"}\n")
	}
	filter := func(rules, source string) string {
		return "title: f\nlogsource: {" + source + "}\nfilter: {rules: " + rules + ", g: adm, condition: not g}\n"
	}
	for _, c := range []struct {
		name  string
		docs  []string
		order string // key, with * if it alerts by itself
		err   string
	}{
		{"chain", []string{corr("top", "[mid, c]"), corr("mid", "[a, b]", ", generate: true"), plain("a"), plain("b"), plain("c")}, "a* b* mid c top*", ""},
		{"unknown", []string{corr("top", "[x]")}, "", `no rule "x"`},
		{"itself", []string{corr("top", "[top]")}, "", "refers back"},
		{"circle", []string{corr("p", "[q]"), corr("q", "[p]")}, "", "refers back"},
		{"twice", []string{plain("a"), plain("a")}, "", `the name "a" is also`},
		{"filtered", []string{plain("a"), filter("[a]", "product: linux")}, "a*", ""},
		{"filter elsewhere", []string{plain("a"), filter("[a]", "product: windows")}, "", "the filter for product=windows"},
		{"filter of none", []string{plain("a"), filter("[b]", "product: linux")}, "", `no rule "b" to filter`},
		{"filter of all", []string{plain("a"), plain("b"), filter("any", "product: linux")}, "a* b*", ""},
	} {
		set, err := Link(parse(t, strings.Join(c.docs, "---\n"), Options{}))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var order []string
		for _, r := range set.Rules {
			key := r.Key()
			if set.Standalone[r] {
				key += "*"
			}
			order = append(order, key)
			if strings.HasPrefix(c.name, "filter") {
				want := fmt.Sprintf(`(=*%q* and not =*"adm"*)`, r.Name)
				if got := write(r.Detection.Expr); got != want {
					t.Errorf("%s: %s, want %s", c.name, got, want)
				}
			}
			for i, ref := range set.Refs[r] {
				if ref.Name != r.Correlation.Rules[i] {
					t.Errorf("%s: reference %d of %s is %s", c.name, i, r.Name, ref.Name)
				}
			}
		}
		if got := strings.Join(order, " "); got != c.order {
			t.Errorf("%s: order %q, want %q", c.name, got, c.order)
		}
	}
}

// Aliases must not let a small file stand for a large one.
func TestAnchors(t *testing.T) {
	got := parse(t, rule("s:\n  A: &x [v, w]\n  B: *x\ncondition: s"), Options{})[0].Detection.Expr
	if want := `((A="v" or A="w") and (B="v" or B="w"))`; write(got) != want {
		t.Errorf("%s, want %s", write(got), want)
	}
	got = parse(t, rule("s: &s {A: v, B: w}\nt:\n  <<: *s\n  B: x\n  C: y\nu:\n  <<: [*s, {B: z, D: q}]\ncondition: s or t and u"), Options{})[0].Detection.Expr
	if want := `((A="v" and B="w") or (B="x" and C="y" and A="v" and A="v" and B="w" and D="q"))`; write(got) != want {
		t.Errorf("%s, want %s", write(got), want)
	}
	for text, want := range map[string]string{
		rule("s:\n  <<: [x]\n  A: v\ncondition: s"):                                       "what is merged into a map is a map",
		rule("s:\n  A: &x v\ncondition: s") + "---\n" + rule("s:\n  A: *x\ncondition: s"): `the anchor "x" is not defined above`,
	} {
		if _, err := Parse("test.yml", []byte(text), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	bomb := "title: t\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 10), ","))
	}
	if _, err := Parse("test.yml", []byte(bomb), Options{}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("error %v", err)
	}
}

// Whatever expression a rule has, and whatever a guest has it look for: an
// expression that is taken costs no more than its length times the text's.
func FuzzRegexp(f *testing.F) {
	f.Add(`(a+)+$`, strings.Repeat("a", 100))
	f.Add(`(x|x)*y`, "xxxxxxxx")
	f.Add(`(?i)^.{1,900}\d{3}[[:alpha:]]?`, "\xff\x00")
	f.Fuzz(func(t *testing.T, expression, text string) {
		quoted := "'" + strings.NewReplacer("'", "''", "\n", "", "\r", "").Replace(expression) + "'"
		rules, err := Parse("fuzz.yml", []byte(rule("s:\n  A|re: "+quoted+"\ncondition: s")), Options{})
		if err != nil {
			return
		}
		re, ok := rules[0].Detection.Expr.(*Match).Test.(*Regexp)
		if !ok {
			return
		}
		if text == "" {
			text = "a"
		}
		text = strings.Repeat(text, 1+4096/len(text))
		start := time.Now()
		re.MatchString(text)
		if took := time.Since(start); took > 5*time.Second {
			t.Fatalf("%q takes %v", expression, took)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(rule("s:\n  A|contains|all: [x, 'y*']\n  B|re|i: a+\nk:\n  - one\ncondition: s and not 1 of k*"))
	f.Add(correlation("type: value_count\nrules: [a]\ngroup-by: [x]\ntimespan: 5m\naliases: {x: {a: b}}\ncondition: {field: f, gte: 2}"))
	f.Add("title: f\nlogsource: {product: linux}\nfilter: {rules: any, g: adm, condition: not g}\n---\n" + rule("s: &a x\nt: *a\ncondition: all of them"))
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := Parse("fuzz.yml", []byte(text), Options{})
		if err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("an error without a place: %v", err)
			}
			_ = err.Error()
			return
		}
		for _, r := range rules {
			if r.Detection != nil {
				evaluate(r.Detection.Expr)
			}
		}
		_, _ = Link(rules)
	})
}

// evaluate has every text looked for in something.
func evaluate(x Expr) {
	switch x := x.(type) {
	case And:
		for _, p := range x {
			evaluate(p)
		}
	case Or:
		for _, p := range x {
			evaluate(p)
		}
	case Not:
		evaluate(x.X)
	case *Match:
		switch test := x.Test.(type) {
		case *Text:
			test.Match("aXb-c/\xff")
		case *Regexp:
			test.MatchString("aXb-c/\xff")
		}
	}
}
