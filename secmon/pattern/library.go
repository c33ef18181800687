package pattern

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"

	"warder/secmon/event"
	"warder/secmon/pattern/correlate"
	"warder/secmon/pattern/detect"
	"warder/secmon/pattern/sigma"
	"warder/secmon/pattern/splice"
)

//go:embed rules
var shipped embed.FS

// Library is rules that were loaded and compiled together. It is not changed.
type Library struct {
	// Rules are all rules but filters, each after those that it refers to.
	Rules []*Rule

	set     *sigma.Set
	program *detect.Program
	// detections gives the rule behind each rule of the program.
	detections []detection
	splices    []*splice.Rule
	rules      map[*sigma.Rule]*Rule
}

// detection is what a match of the program stands for.
type detection struct {
	rule     int  // index in Rules
	excepted bool // the rule matched and a filter excepts the event
}

// Shipped gives the rules that come with warder.
var Shipped = sync.OnceValues(func() (*Library, error) { return Load(shipped, sigma.Options{}) })

// ShippedFile gives the rules of one of the files that come with warder.
func ShippedFile(name string) (*Library, error) {
	rules, err := ShippedFileRules(name)
	if err != nil {
		return nil, err
	}
	return NewLibrary(rules)
}

// ShippedFileRules reads the rules of one of the files that come with warder.
func ShippedFileRules(name string) ([]*sigma.Rule, error) {
	src, err := shipped.ReadFile("rules/" + name)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return sigma.Parse("rules/"+name, src, sigma.Options{})
}

// Load reads and compiles the rules of a tree, see [ReadRules].
func Load(fsys fs.FS, opts sigma.Options) (*Library, error) {
	rules, err := ReadRules(fsys, opts)
	if err != nil {
		return nil, err
	}
	return NewLibrary(rules)
}

// ShippedRules reads the rules that come with warder.
func ShippedRules() ([]*sigma.Rule, error) { return ReadRules(shipped, sigma.Options{}) }

// ReadRules reads all .yaml and .yml files of a tree, in the order of their
// names. One faulty rule fails the whole: half a library is none. The error is a
// [*sigma.Error] where a file is at fault.
func ReadRules(fsys fs.FS, opts sigma.Options) ([]*sigma.Rule, error) {
	return ReadRulesIn(fsys, ".", opts)
}

// ReadRulesIn is ReadRules for a directory of a tree.
func ReadRulesIn(fsys fs.FS, dir string, opts sigma.Options) ([]*sigma.Rule, error) {
	var rules []*sigma.Rule
	err := fs.WalkDir(fsys, dir, func(name string, d fs.DirEntry, err error) error {
		if ext := path.Ext(name); err != nil || d.IsDir() || ext != ".yaml" && ext != ".yml" {
			return err
		}
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		more, err := sigma.Parse(name, src, opts)
		rules = append(rules, more...)
		return err
	})
	if _, ok := errors.AsType[*sigma.Error](err); ok {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return rules, nil
}

// NewLibrary compiles rules.
func NewLibrary(rules []*sigma.Rule) (*Library, error) {
	if len(rules) == 0 {
		return nil, errors.New("rules: there are none")
	}
	set, err := sigma.Link(rules)
	if err != nil {
		return nil, err
	}
	l := &Library{set: set, rules: make(map[*sigma.Rule]*Rule)}
	var detections []*sigma.Rule
	for i, s := range set.Rules {
		r, err := newRule(s)
		if err != nil {
			return nil, err
		}
		l.Rules = append(l.Rules, r)
		l.rules[s] = r
		switch {
		case s.Detection != nil:
			detections = append(detections, s)
			l.detections = append(l.detections, detection{rule: i})
			if x := set.Excepted[s]; x != nil {
				shadow := *s
				shadow.Detection = &sigma.Detection{Expr: x}
				detections = append(detections, &shadow)
				l.detections = append(l.detections, detection{i, true})
			}
		case s.Correlation.Type == splice.Type:
			sp, err := splice.Compile(s)
			if err != nil {
				return nil, err
			}
			sp.Block, sp.Response = slices.Contains(r.Responses, Block), r.response()
			l.splices = append(l.splices, sp)
		case s.Correlation.Extra != nil:
			return nil, s.Fault(s.Correlation.Pos, "the correlation type %q is not known", s.Correlation.Type)
		}
	}
	if l.program, err = detect.Compile(detections); err != nil {
		return nil, err
	}
	// What cannot be correlated is better said now than when an engine is made.
	_, err = correlate.New(set, correlate.DefaultLimits, nil)
	return l, err
}

// byRule is the library's rule for one that was read, nil where it has none.
func (l *Library) byRule(s *sigma.Rule) *Rule { return l.rules[s] }

// Same says whether two libraries have the same rules.
func (l *Library) Same(o *Library) bool {
	return len(l.Rules) == len(o.Rules) && len(l.set.Same(o.set)) == len(l.Rules)
}

// Matches says whether an event matches any detection rule, a part of others
// included.
func (l *Library) Matches(e *event.Event) bool { return len(l.program.Match(e, nil)) > 0 }

// Alerts says whether a rule alerts by itself, and is not only a part of others.
func (l *Library) Alerts(r *Rule) bool { return l.set.Standalone[r.Rule] }
