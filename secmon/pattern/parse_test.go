package pattern

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func shippedSource(t testing.TB) string {
	t.Helper()
	src, err := fs.ReadFile(shipped, "rules/host_parameter_splice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(src)
}

func parseOne(t testing.TB, src string) *Rule {
	t.Helper()
	rules, err := Parse("test.yaml", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	if len(rules) != 1 {
		t.Fatalf("%d rules, want 1", len(rules))
	}
	return rules[0]
}

func TestParse(t *testing.T) {
	r := parseOne(t, shippedSource(t))
	got := *r
	got.Splice.Regexps = nil
	want := Rule{
		ID: "6f2d3c1e-0b57-4b0e-9a44-3f6d3f3a7c10", Title: got.Title, Status: "experimental", Level: "critical",
		Splice: Splice{
			Timespan: 10 * time.Minute, VMs: 2, Parts: []string{"write", "pwrite64", "writev", "pwritev", "pwritev2"}, Join: ByOffset,
			Triggers: []string{"execve", "execveat"}, Other: true,
		},
		Response: Block, Origin: "test.yaml",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("rule (-want +got):\n%s", d)
	}
	if len(r.Splice.Regexps) != 1 {
		t.Errorf("%d regexps", len(r.Splice.Regexps))
	}
}

// The rule that the documentation explains is the one that is shipped, and the
// fault that it shows is reported as it says.
func TestDocumentedRule(t *testing.T) {
	doc, err := os.ReadFile("../../docs/patterns.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```yaml\n")
	src, rest, _ := strings.Cut(rest, "```")
	got, want := parseOne(t, src), parseOne(t, shippedSource(t))
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b *regexp.Regexp) bool { return a.String() == b.String() })); d != "" {
		t.Errorf("rule (-shipped +documented):\n%s", d)
	}
	_, rest, _ = strings.Cut(rest, "```text\n")
	fault, _, _ := strings.Cut(rest, "```")
	_, err = Parse("rules/mine.yaml", []byte(strings.Replace(src, "gte: 2", "gte: 1", 1)))
	if err == nil || err.Error() != strings.TrimSpace(fault) {
		t.Errorf("the fault is reported as\n%v\ndocumented as\n%s", err, fault)
	}
}

// A fault is reported where it is, with the line and a mark under it.
func TestParseErrorsPointAtTheFault(t *testing.T) {
	for _, c := range []struct {
		old, new string // what is changed in a good rule
		at, want string // where the mark stands, what is said
	}{
		{"title: Script", "titel: Script", "titel", `unknown field "titel"`},
		{"level: critical", "level: panic", "panic", "level is one of"},
		{"status: experimental", "status: new", "new", "status is one of"},
		{"id: 6f2d3c1e", "id: xxxxxxxx", "xxxxxxxx", "UUID"},
		{"product: linux", "product: windows", "windows", "logsource"},
		{"type: warder_splice", "type: temporal", "temporal", "only correlations of type warder_splice"},
		{"group-by: [file]", "group-by: [user]", "[user]", "grouped by"},
		{"timespan: 10m", "timespan: 10 m", "10 m", "timespan"},
		{"timespan: 10m", "timespan: 99d", "99d", "at most"},
		{"gte: 2", "gte: 1", "1", "at least 2"},
		{"gte: 2", "gte: two", "two", "cannot unmarshal"},
		{"syscall: [write, pwrite64", "syscall: [write, read", "read", `"read" cannot be used here`},
		{"syscall: [execve, execveat]", "syscall: []", "[]", "system calls are needed"},
		{"join: offset", "join: size", "size", "by offset or by time"},
		{"vm: other", "vm: same", "same", "other or any"},
		{"response: block", "response: destroy", "destroy", "alert or block"},
		{`_space\b'`, `_space('`, `'(?m)`, "missing closing )"},
		{`_space\b'`, `_space|x*'`, `'(?m)`, "matches nothing at all"},
		{"    trigger:", "   trigger:", "", ""},
		{"        gte: 2", "        gte: 2\n        gte: 3", "gte: 3", "gte"},
	} {
		src := strings.Replace(shippedSource(t), c.old, c.new, 1)
		if src == shippedSource(t) {
			t.Fatalf("%q is not in the rule", c.old)
		}
		_, err := Parse("x.yaml", []byte(src))
		e, ok := errors.AsType[*Error](err)
		if !ok {
			t.Errorf("%q: error %v, want an *Error", c.new, err)
			continue
		}
		if c.want == "" {
			continue
		}
		if !strings.Contains(e.Message, c.want) {
			t.Errorf("%q: says %q, want %q in it", c.new, e.Message, c.want)
		}
		lines := strings.Split(e.Error(), "\n")
		if len(lines) != 3 {
			t.Errorf("%q: %d lines, want message, source, mark:\n%s", c.new, len(lines), e)
			continue
		}
		if mark := strings.Index(lines[2], "^"); !strings.HasPrefix(lines[1][min(mark, len(lines[1])):], c.at) {
			t.Errorf("%q: the mark is not under %q:\n%s", c.new, c.at, e)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, src := range map[string]string{
		"nothing":     "",
		"a comment":   "# nothing\n",
		"a list":      "- a\n- b\n",
		"not YAML":    "a: [b\n",
		"a scalar":    "hello",
		"too long":    strings.Repeat("#", maxRuleFile+1),
		"no match":    strings.Replace(shippedSource(t), "regexps:\n            - '(?m)^[^#\\n]*>\\s*/proc/sys/kernel/randomize_va_space\\b'", "strings: []", 1),
		"long string": strings.Replace(shippedSource(t), "    match:\n", "    match:\n        strings: ['"+strings.Repeat("x", maxPattern+1)+"']\n", 1),
	} {
		if _, err := Parse("x.yaml", []byte(src)); err == nil {
			t.Errorf("%s: accepted", name)
		} else if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("%s: %v is not an *Error", name, err)
		}
	}
}

func TestLoad(t *testing.T) {
	rules, err := Shipped()
	if err != nil || len(rules) == 0 {
		t.Fatalf("shipped rules: %d, %v", len(rules), err)
	}
	src := []byte(shippedSource(t))
	twice := fstest.MapFS{"d/a.yaml": {Data: src}, "d/b.yml": {Data: src}, "d/README.md": {Data: []byte("no rule")}}
	if _, err := Load(twice, "d"); err == nil || !strings.Contains(err.Error(), "d/a.yaml and d/b.yml have the same id") {
		t.Errorf("the same id twice: %v", err)
	}
	delete(twice, "d/b.yml")
	if rules, err := Load(twice, "d"); err != nil || len(rules) != 1 {
		t.Errorf("%d rules, %v", len(rules), err)
	}
	if _, err := Load(twice, "nowhere"); err == nil {
		t.Error("a directory that is not there was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(shippedSource(f)))
	f.Add([]byte("correlation:\n  match:\n    regexps: ['(a|']\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		rules, err := Parse("x", src)
		if err != nil {
			_ = err.Error()
			return
		}
		if _, err := New(rules, DefaultLimits); err != nil {
			t.Fatal(err)
		}
	})
}
