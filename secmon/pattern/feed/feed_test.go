package feed

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const meta = "name: acme\nversion: 2026.11\nsource: https://acme.example/rules\nlicence: Apache-2.0\n"

func ruleText(title string) string {
	return "title: " + title + "\nname: " + title + "\nlogsource: {category: process_creation}\ndetection: {s: {Image: /bin/" + title + "}, condition: s}\n"
}

func write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// world is a publisher and a user.
type world struct {
	t                                *testing.T
	rules, repository, keys, library string
	source                           Source
}

func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	w := &world{t, filepath.Join(dir, "rules"), filepath.Join(dir, "repository"), filepath.Join(dir, "keys"), filepath.Join(dir, "library"), Source{}}
	write(t, filepath.Join(w.rules, PackFile), meta)
	write(t, filepath.Join(w.rules, "one.yml"), ruleText("one"))
	p := w.publish(now)
	root, err := os.ReadFile(p.Root)
	if err != nil {
		t.Fatal(err)
	}
	w.source = Source{Name: "acme", URL: "file://" + w.repository, Root: root}
	if err := Add(w.library, w.source); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) publish(at time.Time) Published {
	w.t.Helper()
	p, err := Publish(w.rules, w.repository, w.keys, at)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// publishUnchecked publishes what Publish would refuse.
func (w *world) publishUnchecked(at time.Time) {
	w.t.Helper()
	k, err := loadKeys(w.keys)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &publisher{out: w.repository, keys: k, now: at}
	if _, err := p.publish(os.DirFS(w.rules)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) update(at time.Time) Updated {
	w.t.Helper()
	u, err := w.source.Update(w.t.Context(), w.library, at)
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

// names are the acme rules in force.
func (w *world) names() string {
	w.t.Helper()
	l, err := Load(w.library)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, r := range l.Rules {
		if r.ID == "" {
			out = append(out, r.Name)
		}
	}
	return strings.Join(out, " ")
}

func (w *world) copyRepository() string {
	w.t.Helper()
	to := filepath.Join(w.t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(w.repository)); err != nil {
		w.t.Fatal(err)
	}
	return to
}

func (w *world) putRepository(from string) {
	w.t.Helper()
	if err := os.RemoveAll(w.repository); err != nil {
		w.t.Fatal(err)
	}
	if err := os.CopyFS(w.repository, os.DirFS(from)); err != nil {
		w.t.Fatal(err)
	}
}

func TestUpdate(t *testing.T) {
	w := newWorld(t)
	if got := w.names(); got != "" {
		t.Errorf("rules %q before the first update", got)
	}
	u := w.update(now)
	if u.Pack.Name != "acme" || u.Version != 1 || u.Rules != 1 || !u.Changed || w.names() != "one" {
		t.Errorf("%+v, rules %q", u, w.names())
	}
	if u := w.update(now); u.Changed || u.Rules != 1 {
		t.Errorf("updated without anything new: %+v", u)
	}
	write(t, filepath.Join(w.rules, "more", "two.yaml"), ruleText("two"))
	if err := os.Remove(filepath.Join(w.rules, "one.yml")); err != nil {
		t.Fatal(err)
	}
	w.publish(now.Add(time.Hour))
	if u := w.update(now.Add(time.Hour)); u.Version != 2 || !u.Changed || w.names() != "two" {
		t.Errorf("%+v, rules %q", u, w.names())
	}
	// Only what is in force is kept.
	old, err := filepath.Glob(filepath.Join(w.library, "acme", "[0-9]*"))
	if err != nil || len(old) != 1 {
		t.Errorf("versions %v, %v", old, err)
	}
}

func TestOverHTTP(t *testing.T) {
	w := newWorld(t)
	server := httptest.NewServer(http.FileServer(http.Dir(w.repository)))
	defer server.Close()
	w.source.URL = server.URL + "/"
	if u := w.update(now); u.Rules != 1 || w.names() != "one" {
		t.Errorf("%+v, rules %q", u, w.names())
	}
}

// Whoever can only change what is sent gets nothing into force, and the last
// good rules stay.
func TestAttacks(t *testing.T) {
	later := now.Add(time.Hour)
	for _, c := range []struct {
		name   string
		attack func(t *testing.T, w *world)
		at     time.Time
		want   string
	}{
		{"rollback", func(t *testing.T, w *world) {
			old := w.copyRepository()
			w.publish(later)
			w.update(later)
			w.putRepository(old)
		}, later, "gone back to an older state"},
		{"freeze", func(*testing.T, *world) {}, now.Add(8 * 24 * time.Hour), "expired"},
		{"another key", func(t *testing.T, w *world) {
			if err := os.RemoveAll(w.keys); err != nil {
				t.Fatal(err)
			}
			w.publish(later) // the root stays, what it does not know signs
		}, later, "not signed by"},
		{"mix and match", func(t *testing.T, w *world) {
			old := w.copyRepository()
			write(t, filepath.Join(w.rules, "two.yml"), ruleText("two"))
			w.publish(later)
			text, err := os.ReadFile(filepath.Join(old, "metadata", "1.targets.json"))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(w.repository, "metadata", "2.targets.json"), string(text))
		}, later, "older state"},
		{"a changed rule", func(t *testing.T, w *world) {
			write(t, filepath.Join(w.rules, "one.yml"), ruleText("other"))
			w.publish(later)
			names, _ := filepath.Glob(filepath.Join(w.repository, "targets", "*.one.yml"))
			for _, n := range names {
				text, err := os.ReadFile(n)
				if err != nil {
					t.Fatal(err)
				}
				write(t, n, string(bytes.ReplaceAll(text, []byte("other"), []byte("evil!"))))
			}
		}, later, "not what was signed"},
		{"a rule cut short", func(t *testing.T, w *world) {
			write(t, filepath.Join(w.rules, "one.yml"), ruleText("other"))
			w.publish(later)
			names, _ := filepath.Glob(filepath.Join(w.repository, "targets", "*.one.yml"))
			for _, n := range names {
				if err := os.Truncate(n, 10); err != nil {
					t.Fatal(err)
				}
			}
		}, later, "not what was signed"},
		{"an endless file", func(t *testing.T, w *world) {
			w.publish(later)
			if err := os.Truncate(filepath.Join(w.repository, "metadata", "timestamp.json"), 100<<20); err != nil {
				t.Fatal(err)
			}
		}, later, "not what was signed"},
		{"a broken rule", func(t *testing.T, w *world) {
			write(t, filepath.Join(w.rules, "bad.yml"), "title: bad\n")
			w.publishUnchecked(later)
		}, later, "bad.yml:1:1: a rule has one of"},
		{"rules for a newer warder", func(t *testing.T, w *world) {
			write(t, filepath.Join(w.rules, PackFile), meta+"minimum_warder: '99.1'\n")
			w.publishUnchecked(later)
		}, later, "needs warder 99.1"},
		{"a rule that takes the name of a shipped one", func(t *testing.T, w *world) {
			write(t, filepath.Join(w.rules, "x.yml"), strings.ReplaceAll(ruleText("x"), "name: x", "name: share_write"))
			w.publish(later)
		}, later, "is also that of"},
		{"nothing there", func(t *testing.T, w *world) {
			if err := os.RemoveAll(w.repository); err != nil {
				t.Fatal(err)
			}
		}, later, "404"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.update(now)
			c.attack(t, w)
			_, err := w.source.Update(t.Context(), w.library, c.at)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "stay in force") {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if got := w.names(); got != "one" {
				t.Errorf("rules %q in force, want one", got)
			}
			left, _ := filepath.Glob(filepath.Join(w.library, "acme", "*.new"))
			if len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestPublishRefuses(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct{ file, text, want string }{
		"no pack":      {PackFile, "", "name"},
		"a bad name":   {PackFile, strings.Replace(meta, "acme", "../x", 1), "letters a to z"},
		"no licence":   {PackFile, strings.Replace(meta, "licence: Apache-2.0\n", "", 1), "licence"},
		"a bad rule":   {"bad.yml", "title: bad\n", "bad.yml:1:1"},
		"a bad sample": {"bad.yml", ruleText("x") + "warder: {samples: {positive: [{name: s, events: [{event.dataset: warder.loss}]}]}}\n", "does not alert on the sample"},
	} {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(w.rules)); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, c.file), c.text)
		if _, err := Publish(dir, w.repository, w.keys, now); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestAddRefuses(t *testing.T) {
	w := newWorld(t)
	for want, s := range map[string]Source{
		"letters a to z": {Name: "../x", URL: w.source.URL, Root: w.source.Root},
		"https://":       {Name: "x", URL: "ftp://x", Root: w.source.Root},
		"root of trust":  {Name: "x", URL: w.source.URL, Root: []byte("{}")},
	} {
		if err := Add(w.library, s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", s, err, want)
		}
	}
}

func TestSafeName(t *testing.T) {
	for name, want := range map[string]bool{
		"a.yml": true, "d/e/a.yaml": true, PackFile: true,
		"../a.yml": false, "/a.yml": false, "a.sh": false, "d/../../a.yml": false, "": false, "a\\b.yml": false, "d/" + PackFile: false, strings.Repeat("a", 300) + ".yml": false,
	} {
		if got := safeName(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

// Metadata that is not what it should be is refused, whatever it is.
func FuzzTimestamp(f *testing.F) {
	f.Add([]byte(`{"signed":{"_type":"timestamp","version":9},"signatures":[]}`))
	f.Add([]byte(``))
	f.Fuzz(func(t *testing.T, text []byte) {
		w := newWorld(t)
		w.update(now)
		write(t, filepath.Join(w.repository, "metadata", "timestamp.json"), string(text))
		if u, err := w.source.Update(t.Context(), w.library, now); err == nil && u.Changed {
			t.Fatalf("updated to %+v by %q", u, text)
		}
		if w.names() != "one" {
			t.Fatal("other rules are in force")
		}
	})
}
