package sigma

import (
	"regexp"
	"slices"
	"strings"
)

// Options are what a rule's reader knows and the rule does not.
type Options struct {
	// Placeholders are the values of %NAME% in values with the modifier
	// expand. They may have wildcards.
	Placeholders map[string][]string
}

// Parse reads a rule file of one or more documents. name is what errors call
// it. A file with a fault is refused whole, with an [*Error]. So is one without
// a rule.
func Parse(name string, text []byte, opts Options) ([]*Rule, error) {
	s := newSource(name, text)
	docs, err := s.documents(text)
	if err != nil {
		return nil, err
	}
	var rules []*Rule
	for _, doc := range docs {
		if doc.Kind != MapNode {
			return nil, s.fail(doc.Pos, "a rule is a map, not %v", doc.Kind)
		}
		if action := doc.Get("action"); action != nil {
			return nil, s.fail(action.Pos, "rule collections with an action are of Sigma before 2.0: write each rule out")
		}
		r, err := s.rule(doc, &opts)
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	if len(rules) == 0 {
		return nil, s.fail(Pos{1, 1}, "no rule in this file")
	}
	return rules, nil
}

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// rule reads one document. Fields that the specification does not name are
// custom ones, which it allows.
func (s *source) rule(n *Node, opts *Options) (*Rule, error) {
	r := &Rule{Pos: n.Pos, src: s, digest: n.digest()}
	texts := map[string]*string{
		"title": &r.Title, "id": &r.ID, "name": &r.Name, "status": &r.Status, "level": &r.Level,
		"description": &r.Description, "license": &r.License, "author": &r.Author,
		"date": &r.Date, "modified": &r.Modified,
	}
	lists := map[string]*[]string{
		"references": &r.References, "tags": &r.Tags, "falsepositives": &r.FalsePositives,
		"fields": &r.Fields, "scope": &r.Scope,
	}
	var err error
	for i, key := range n.Keys {
		v := n.List[i]
		switch into := texts[key.Text]; {
		case into != nil:
			if v.Kind >= ListNode {
				return nil, s.fail(v.Pos, "%s is a text", key.Text)
			}
			*into = v.Text
		case lists[key.Text] != nil:
			if *lists[key.Text], _, err = s.texts(v); err != nil {
				return nil, err
			}
		case key.Text == "logsource":
			if r.Source, err = s.logSource(v); err != nil {
				return nil, err
			}
		case key.Text == "warder":
			r.Extension = v
		}
	}
	if err := s.metadata(r, n); err != nil {
		return nil, err
	}
	return r, s.body(r, n, opts)
}

// metadata checks what people and other rules know a rule by.
func (s *source) metadata(r *Rule, n *Node) error {
	switch {
	case r.Title == "":
		return s.fail(n.Pos, "a rule needs a title")
	case len(r.Title) > 256:
		return s.fail(n.Get("title").Pos, "a title has at most 256 characters")
	case r.ID != "" && !uuid.MatchString(r.ID):
		return s.fail(n.Get("id").Pos, "the id of a rule is a UUID")
	case r.Status != "" && !slices.Contains(Statuses, r.Status):
		return s.fail(n.Get("status").Pos, "status is one of %s", strings.Join(Statuses, ", "))
	case r.Level != "" && !slices.Contains(Levels, r.Level):
		return s.fail(n.Get("level").Pos, "level is one of %s", strings.Join(Levels, ", "))
	}
	if t := n.Get("taxonomy"); t != nil && t.Text != "sigma" {
		return s.fail(t.Pos, "the taxonomy %q is not known, only sigma", t.Text)
	}
	return nil
}

// body reads the one part that makes a document a rule.
func (s *source) body(r *Rule, n *Node, opts *Options) (err error) {
	var found []string
	for _, key := range []string{"detection", "correlation", "filter"} {
		if n.Get(key) != nil {
			found = append(found, key)
		}
	}
	if len(found) != 1 {
		return s.fail(n.Pos, "a rule has one of detection, correlation and filter")
	}
	v := n.Get(found[0])
	if found[0] != "correlation" && r.Source == (LogSource{}) {
		return s.fail(n.Pos, "a %s needs a logsource", found[0])
	}
	switch found[0] {
	case "detection":
		r.Detection = &Detection{}
		r.Detection.Expr, err = s.detection(v, nil, opts)
	case "correlation":
		r.Correlation, err = s.correlation(v)
	default:
		r.Filter, err = s.filter(v, opts)
	}
	return err
}

func (s *source) logSource(n *Node) (LogSource, error) {
	var l LogSource
	if n.Kind != MapNode {
		return l, s.fail(n.Pos, "a logsource is a map of category, product and service")
	}
	parts := map[string]*string{"category": &l.Category, "product": &l.Product, "service": &l.Service}
	for i, key := range n.Keys {
		into := parts[key.Text]
		if into == nil {
			continue // definition and the like are for people
		}
		if n.List[i].Kind != TextNode || n.List[i].Text == "" {
			return l, s.fail(n.List[i].Pos, "%s is a name", key.Text)
		}
		*into = n.List[i].Text
	}
	if l == (LogSource{}) {
		return l, s.fail(n.Pos, "a logsource has at least one of category, product and service")
	}
	return l, nil
}

// filter reads a filter section.
func (s *source) filter(n *Node, opts *Options) (*Filter, error) {
	f := &Filter{Pos: n.Pos}
	rules := n.Get("rules")
	switch {
	case rules == nil:
		return nil, s.fail(n.Pos, "a filter needs rules, or rules: any")
	case rules.Kind == TextNode && strings.EqualFold(rules.Text, "any"):
		f.Any = true
	default:
		var err error
		if f.Rules, f.RulePos, err = s.texts(rules); err != nil {
			return nil, err
		}
		if len(f.Rules) == 0 {
			return nil, s.fail(rules.Pos, "a filter needs rules, or rules: any")
		}
	}
	x, err := s.detection(n, []string{"rules"}, opts)
	f.Expr = x
	return f, err
}

// texts reads a text or a list of them.
func (s *source) texts(n *Node) (texts []string, places []Pos, err error) {
	list := []*Node{n}
	switch n.Kind {
	case ListNode:
		list = n.List
	case NullNode:
		return nil, nil, nil
	}
	for _, v := range list {
		if v.Kind >= ListNode {
			return nil, nil, s.fail(v.Pos, "a text is needed here, not %v", v.Kind)
		}
		texts = append(texts, v.Text)
		places = append(places, v.Pos)
	}
	return texts, places, nil
}
