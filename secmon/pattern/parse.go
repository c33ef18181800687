package pattern

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// spliceType is the Sigma correlation type of our rules. Sigma has no types
// with a prefix, so that its other tools pass such a rule by.
const spliceType = "warder_splice"

// Limits on a rule, so that a library cannot make the engine slow.
const (
	maxRuleFile = 256 << 10
	maxPatterns = 64
	maxPattern  = 4096
	maxTimespan = 24 * time.Hour
)

// What a rule may name.
var (
	levels       = []string{"informational", "low", "medium", "high", "critical"}
	statuses     = []string{"stable", "test", "experimental", "deprecated", "unsupported"}
	partCalls    = []string{"write", "pwrite64", "writev", "pwritev", "pwritev2"}
	triggerCalls = []string{"execve", "execveat", "openat"}
)

// document is a rule as it is written: Sigma's fields, then ours.
type document struct {
	Title          string   `yaml:"title"`
	ID             string   `yaml:"id"`
	Name           string   `yaml:"name"`
	Status         string   `yaml:"status"`
	Description    string   `yaml:"description"`
	References     []string `yaml:"references"`
	Author         string   `yaml:"author"`
	Date           string   `yaml:"date"`
	Modified       string   `yaml:"modified"`
	License        string   `yaml:"license"`
	Tags           []string `yaml:"tags"`
	FalsePositives []string `yaml:"falsepositives"`
	Level          string   `yaml:"level"`
	LogSource      struct {
		Product  string `yaml:"product"`
		Category string `yaml:"category"`
		Service  string `yaml:"service"`
	} `yaml:"logsource"`
	Correlation struct {
		Type      string   `yaml:"type"`
		GroupBy   []string `yaml:"group-by"`
		Timespan  string   `yaml:"timespan"`
		Condition struct {
			AtLeast int `yaml:"gte"`
		} `yaml:"condition"`
		Parts struct {
			Syscall []string `yaml:"syscall"`
			Join    string   `yaml:"join"`
		} `yaml:"parts"`
		Match struct {
			Strings []string `yaml:"strings"`
			Regexps []string `yaml:"regexps"`
		} `yaml:"match"`
		Trigger struct {
			Syscall []string `yaml:"syscall"`
			VM      string   `yaml:"vm"`
		} `yaml:"trigger"`
		Response string `yaml:"response"`
	} `yaml:"correlation"`
}

// Error is a fault in a rule file and where it is.
type Error struct {
	File         string
	Line, Column int // from 1
	Message      string
	Source       string // the line itself
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
	if e.Source != "" {
		s += "\n    " + strings.ReplaceAll(e.Source, "\t", " ") + "\n    " + strings.Repeat(" ", max(e.Column-1, 0)) + "^"
	}
	return s
}

// Parse reads the rules of one YAML file, one or more documents. A file with a
// fault is refused whole; the error is an [*Error] that points at it.
func Parse(file string, src []byte) ([]*Rule, error) {
	if len(src) > maxRuleFile {
		return nil, &Error{File: file, Line: 1, Column: 1, Message: fmt.Sprintf("a rule file of more than %d bytes", maxRuleFile)}
	}
	tree, err := parser.ParseBytes(src, 0)
	if err != nil {
		return nil, syntaxError(file, src, err)
	}
	var rules []*Rule
	for _, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType {
			continue
		}
		c := &compiler{file: file, src: src, node: doc.Body}
		if err := yaml.NodeToValue(doc.Body, &c.doc, yaml.Strict()); err != nil {
			return nil, syntaxError(file, src, err)
		}
		rule, err := c.rule()
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	if len(rules) == 0 {
		return nil, &Error{File: file, Line: 1, Column: 1, Message: "no rule in this file"}
	}
	return rules, nil
}

func syntaxError(file string, src []byte, err error) error {
	e := &Error{File: file, Line: 1, Column: 1, Message: err.Error()}
	if y, ok := errors.AsType[yaml.Error](err); ok {
		e.Message = y.GetMessage()
		if tok := y.GetToken(); tok != nil && tok.Position != nil {
			e.Line, e.Column = tok.Position.Line, tok.Position.Column
		}
	}
	e.Source = sourceLine(src, e.Line)
	return e
}

func sourceLine(src []byte, n int) string {
	lines := strings.Split(string(src), "\n")
	if n < 1 || n > len(lines) {
		return ""
	}
	return lines[n-1]
}

// compiler checks one document.
type compiler struct {
	file string
	src  []byte
	node ast.Node
	doc  document
}

// fail points at the value of a YAML path; at the nearest one above it when
// the value is missing.
func (c *compiler) fail(path, format string, args ...any) error {
	e := &Error{File: c.file, Line: 1, Column: 1, Message: fmt.Sprintf(format, args...)}
	if tok := c.node.GetToken(); tok != nil && tok.Position != nil {
		e.Line, e.Column = tok.Position.Line, 1
	}
	for path != "$" {
		if p, err := yaml.PathString(path); err == nil {
			if node, err := p.FilterNode(c.node); err == nil && node != nil && node.GetToken() != nil {
				pos := node.GetToken().Position
				e.Line, e.Column = pos.Line, pos.Column
				break
			}
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 1)]
	}
	e.Source = sourceLine(c.src, e.Line)
	return e
}

func (c *compiler) rule() (*Rule, error) {
	d := &c.doc
	r := &Rule{ID: d.ID, Title: d.Title, Status: d.Status, Level: d.Level, Origin: c.file}
	cor := &d.Correlation
	switch {
	case d.Title == "":
		return nil, c.fail("$.title", "a rule needs a title")
	case !uuid.MatchString(d.ID):
		return nil, c.fail("$.id", "the id of a rule is a UUID")
	case !slices.Contains(statuses, d.Status):
		return nil, c.fail("$.status", "status is one of %s", strings.Join(statuses, ", "))
	case !slices.Contains(levels, d.Level):
		return nil, c.fail("$.level", "level is one of %s", strings.Join(levels, ", "))
	case d.LogSource.Product != "linux":
		return nil, c.fail("$.logsource.product", "the product of logsource is linux")
	case d.LogSource.Category != "syscall":
		return nil, c.fail("$.logsource.category", "the category of logsource is syscall")
	case cor.Type != spliceType:
		return nil, c.fail("$.correlation.type", "only correlations of type %s are understood", spliceType)
	case !slices.Equal(cor.GroupBy, []string{"file"}):
		return nil, c.fail("$.correlation.group-by", "a splice is grouped by [file]")
	}
	switch cor.Response {
	case "", "alert":
	case "block":
		r.Response = Block
	default:
		return nil, c.fail("$.correlation.response", "response is alert or block")
	}
	return r, c.splice(&r.Splice)
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func (c *compiler) splice(s *Splice) error {
	cor := &c.doc.Correlation
	var err error
	if s.Timespan, err = timespan(cor.Timespan); err != nil {
		return c.fail("$.correlation.timespan", "timespan %q: %v", cor.Timespan, err)
	}
	if s.VMs = cor.Condition.AtLeast; s.VMs < 2 {
		return c.fail("$.correlation.condition.gte", "a splice is of at least 2 VMs")
	}
	if s.Parts, err = c.calls("$.correlation.parts.syscall", cor.Parts.Syscall, partCalls); err != nil {
		return err
	}
	switch cor.Parts.Join {
	case "", "offset":
	case "time":
		s.Join = ByTime
	default:
		return c.fail("$.correlation.parts.join", "parts are joined by offset or by time")
	}
	if s.Triggers, err = c.calls("$.correlation.trigger.syscall", cor.Trigger.Syscall, triggerCalls); err != nil {
		return err
	}
	switch cor.Trigger.VM {
	case "", "other":
		s.Other = true
	case "any":
	default:
		return c.fail("$.correlation.trigger.vm", "the VM of the trigger is other or any")
	}
	return c.match(s)
}

func (c *compiler) match(s *Splice) error {
	m := &c.doc.Correlation.Match
	if n := len(m.Strings) + len(m.Regexps); n == 0 || n > maxPatterns {
		return c.fail("$.correlation.match", "a splice matches 1 to %d strings and regexps", maxPatterns)
	}
	for i, str := range m.Strings {
		if str == "" || len(str) > maxPattern {
			return c.fail(fmt.Sprintf("$.correlation.match.strings[%d]", i), "a string of 1 to %d bytes is needed", maxPattern)
		}
	}
	s.Strings = m.Strings
	for i, expr := range m.Regexps {
		at := fmt.Sprintf("$.correlation.match.regexps[%d]", i)
		if len(expr) > maxPattern {
			return c.fail(at, "a regular expression of more than %d bytes", maxPattern)
		}
		re, err := regexp.Compile(expr)
		if err != nil {
			return c.fail(at, "%v", err)
		}
		if re.MatchString("") {
			return c.fail(at, "this regular expression matches nothing at all")
		}
		s.Regexps = append(s.Regexps, re)
	}
	return nil
}

// calls checks a list of system calls against those that can play the part.
func (c *compiler) calls(path string, got, known []string) ([]string, error) {
	if len(got) == 0 {
		return nil, c.fail(path, "system calls are needed here: some of %s", strings.Join(known, ", "))
	}
	for i, name := range got {
		if !slices.Contains(known, name) {
			return nil, c.fail(fmt.Sprintf("%s[%d]", path, i), "the system call %q cannot be used here, only %s", name, strings.Join(known, ", "))
		}
	}
	return got, nil
}

// timespan reads Sigma's form: a number and one of s, m, h, d.
func timespan(s string) (time.Duration, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	var n int64
	if s == "" || len(s) > 10 {
		return 0, errors.New("a number and one of s, m, h, d is needed")
	}
	unit, ok := units[s[len(s)-1]]
	if _, err := fmt.Sscanf(s[:len(s)-1], "%d", &n); err != nil || !ok || fmt.Sprint(n) != s[:len(s)-1] {
		return 0, errors.New("a number and one of s, m, h, d is needed")
	}
	if n <= 0 || n > int64(maxTimespan/unit) {
		return 0, fmt.Errorf("must be more than nothing and at most %v", maxTimespan)
	}
	return time.Duration(n) * unit, nil
}
