package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"warder/secmon/event"
	"warder/secmon/pattern/feed"
	"warder/secmon/pattern/sigma"
	"warder/secmon/watch"
)

// publisher publishes rules in a directory.
type publisher struct {
	t         *testing.T
	dir, name string
}

func (p publisher) in(name string) string { return filepath.Join(p.dir, p.name, name) }

func (p publisher) publish(rules string, at time.Time) {
	p.t.Helper()
	if err := os.MkdirAll(p.in("rules"), 0o755); err != nil {
		p.t.Fatal(err)
	}
	meta := "name: " + p.name + "\nversion: '7'\nsource: us\nlicence: MIT\n"
	for name, text := range map[string]string{"x.yml": rules, feed.PackFile: meta} {
		if err := os.WriteFile(filepath.Join(p.in("rules"), name), []byte(text), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	if _, err := feed.Publish(p.in("rules"), p.in("repository"), p.in("keys"), sigma.Options{Placeholders: map[string][]string{"admins": {"x"}}}, at); err != nil {
		p.t.Fatal(err)
	}
}

func program(title string) string {
	return "title: " + title + "\nlogsource: {category: process_creation}\ndetection: {s: {Image: /bin/" + title + ", User|expand: '%admins%'}, condition: s}\n"
}

// A host has rules of several sources, each trusted by a root of its own, and a
// directory without one. What a source publishes comes into force without an end
// of what runs; what it cannot be trusted for does not, and is an event.
func TestHostUpdatesRules(t *testing.T) {
	dir := t.TempDir()
	a, b := publisher{t, dir, "a"}, publisher{t, dir, "b"}
	a.publish(program("one"), time.Now())
	b.publish(program("other"), time.Now())
	for _, p := range []publisher{a, b} {
		root, err := os.ReadFile(p.in("repository/metadata/1.root.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, p.name+".root.json"), root, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	local := filepath.Join(dir, "local")
	if err := os.MkdirAll(local, 0o755); err != nil {
		t.Fatal(err)
	}
	writeRule := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(local, "r.yml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	writeRule(program("local"))
	file := filepath.Join(dir, "host.yaml")
	config := `
rules: local
patterns:
  library: library
  update: 1s
  placeholders: {admins: [root, admin]}
  sources:
    - {name: a, url: a/repository, root: a.root.json}
    - {name: b, url: b/repository, root: b.root.json}
vms: [{name: vm}]
`
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := hostFlags{config: file}.load()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Patterns.every != time.Second {
		t.Errorf("updated every %v", cfg.Patterns.every)
	}
	l, left, err := cfg.openLibrary()
	if err != nil || len(left) > 0 || !l.scheduled {
		t.Fatal(err, left)
	}
	w, err := watch.New(l.now)
	if err != nil {
		t.Fatal(err)
	}
	// update gives the rules in force and the events of an update.
	update := func() (rules string, events []string) {
		t.Helper()
		l.update(t.Context(), w)
		var titles []string
		for _, r := range w.Library().Rules {
			titles = append(titles, r.Title)
		}
		w.Events.Put(event.Event{Kind: event.Alert}) // the last of the queue
		for {
			e, err := w.Events.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if e.Kind == event.Alert {
				return strings.Join(titles, " "), events
			}
			events = append(events, e.Action+": "+e.Message)
		}
	}
	check := func(what, rules string, says ...string) {
		t.Helper()
		got, events := update()
		if got != rules {
			t.Errorf("%s: rules %q, want %q", what, got, rules)
		}
		if len(events) != len(says) {
			t.Errorf("%s: events %q", what, events)
			return
		}
		for i, want := range says {
			if !strings.Contains(events[i], want) {
				t.Errorf("%s: event %q, want %q", what, events[i], want)
			}
		}
	}
	check("the first", "local one other", "rules-updated: source a: a 7, 1 rule", "rules-updated: source b: b 7, 1 rule", "rules-updated: in force: 3 rules")
	check("nothing new", "local one other")
	a.publish(program("two"), time.Now())
	check("a new rule", "local two other", "rules-updated: source a", "rules-updated: in force: 3 rules")

	// b is signed by somebody else: a goes on.
	for _, name := range []string{"keys", "repository"} {
		if err := os.RemoveAll(b.in(name)); err != nil {
			t.Fatal(err)
		}
	}
	b.publish(program("evil"), time.Now())
	b.publish(program("evil"), time.Now())
	a.publish(program("three"), time.Now())
	check("a wrong key", "local three other", "rules-updated: source a", "rules-refused: source b is not updated: it is not signed by who should have signed it", "rules-updated: in force: 3 rules")
	if err := os.RemoveAll(b.in("repository")); err != nil {
		t.Fatal(err)
	}
	check("nobody there", "local three other", "rules-refused: source b is not updated")
	a.publish(program("three"), time.Now().Add(-30*24*time.Hour))
	check("expired", "local three other", "rules-refused: source a is not updated: what it says has expired", "rules-refused: source b is not updated")

	// The local directory.
	writeRule("title: broken\n")
	check("a fault", "local three other", "rules-refused: source a", "rules-refused: source b", "stay in force")
	writeRule(program("mine"))
	check("mended", "mine three other", "rules-refused: source a", "rules-refused: source b", "rules-updated: in force: 3 rules")

	// What was in force is there after a restart, without anybody to ask.
	again, left, err := cfg.openLibrary()
	if err != nil || len(left) > 0 || !again.now.Same(w.Library()) {
		t.Errorf("after a restart: %v, %v", err, left)
	}
	// A source whose rules do not load any more is left out, the others not.
	if err := os.WriteFile(filepath.Join(dir, "library", "a", "current", "x.yml"), []byte("title: broken\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	again, left, err = cfg.openLibrary()
	if err != nil || len(left) != 1 || !strings.Contains(left[0].Error(), "source a: a/current/x.yml:1:1") || len(again.now.Rules) != 2 {
		t.Errorf("a broken source: %v, %v", err, left)
	}
}

func TestHostPatternsConfig(t *testing.T) {
	dir := t.TempDir()
	for in, says := range map[string]string{
		"{sources: [{name: a, url: x, root: r}]}":    "give it as library",
		"{library: l, sources: [{name: a, url: x}]}": "give name, url and root",
		"{library: l, update: never}":                "give a time as 6h",
		"{library: l, update: 1ms}":                  "give a time as 6h",
		"{library: l, colour: red}":                  "colour",
	} {
		file := filepath.Join(dir, "host.yaml")
		if err := os.WriteFile(file, []byte("patterns: "+in+"\nvms: [{name: a}]\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := (hostFlags{config: file}).load(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want one that says %q", in, err, says)
		}
	}
	cfg := hostConfig{Patterns: patternsConfig{Library: filepath.Join(dir, "library"), Sources: []sourceFile{{Name: "a", URL: "https://a.example", Root: filepath.Join(dir, "none")}}}}
	if _, _, err := cfg.openLibrary(); err == nil || !strings.Contains(err.Error(), "source a: the root of trust") {
		t.Errorf("error %v", err)
	}
	if got := cfg.Patterns.files(); !slices.Equal(got, []string{filepath.Join(dir, "none")}) {
		t.Errorf("for the lab, with a library that is not there yet: %q", got)
	}
}
