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

	"warder/secmon/pattern"
	"warder/secmon/pattern/sigma"
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
	t                       *testing.T
	rules, repository, keys string
	library                 *Library
	source                  Source
}

func newWorld(t *testing.T) *world {
	dir := t.TempDir()
	w := &world{t, filepath.Join(dir, "rules"), filepath.Join(dir, "repository"), filepath.Join(dir, "keys"), &Library{Dir: filepath.Join(dir, "library")}, Source{}}
	write(t, filepath.Join(w.rules, PackFile), meta)
	write(t, filepath.Join(w.rules, "one.yml"), ruleText("one"))
	p := w.publish(now)
	root, err := os.ReadFile(p.Root)
	if err != nil {
		t.Fatal(err)
	}
	w.source = Source{Name: "acme", URL: "file://" + w.repository, Root: root}
	if err := w.library.Add(w.source); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) publish(at time.Time) Published {
	w.t.Helper()
	p, err := Publish(w.rules, w.repository, w.keys, sigma.Options{}, at)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// publishUnchecked publishes what Publish would refuse.
func (w *world) publishUnchecked(at time.Time) {
	w.t.Helper()
	k, err := loadKeys(w.keys, false)
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
	u, err := w.library.Update(w.t.Context(), w.source, at)
	if err != nil {
		w.t.Fatal(err)
	}
	return u
}

// names are the acme rules in force.
func (w *world) names() string {
	w.t.Helper()
	l, left, err := w.library.Load()
	if err != nil || len(left) > 0 {
		w.t.Fatal(err, left)
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
	old, err := filepath.Glob(filepath.Join(w.library.Dir, "acme", "[0-9]*"))
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
			for _, dir := range []string{w.keys, w.repository} {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
			w.publish(later)
			w.publish(later) // no older than what is known
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
			_, err := w.library.Update(t.Context(), w.source, c.at)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "source acme is not updated: ") {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if got := w.names(); got != "one" {
				t.Errorf("rules %q in force, want one", got)
			}
			left, _ := filepath.Glob(filepath.Join(w.library.Dir, "acme", "*.new"))
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
		if _, err := Publish(dir, w.repository, w.keys, sigma.Options{}, now); err == nil || !strings.Contains(err.Error(), c.want) {
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
		if err := w.library.Add(s); err == nil || !strings.Contains(err.Error(), want) {
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

// The root of trust is renewed before it is over, also with other keys for all but
// itself; who has an old one goes on from there. Without the root's key nothing is
// made up.
func TestRootIsRenewed(t *testing.T) {
	w := newWorld(t)
	first := w.update(now)
	day := func(n int) time.Time { return now.Add(time.Duration(n) * 24 * time.Hour) }
	// The root's key is kept apart, as it should be.
	key, apart := filepath.Join(w.keys, "root.pem"), filepath.Join(t.TempDir(), "root.pem")
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	move(key, apart)
	if p := w.publish(day(300)); !p.Expires.Equal(day(365)) {
		t.Errorf("the root is good until %v", p.Expires)
	}
	if _, err := Publish(w.rules, w.repository, w.keys, sigma.Options{}, day(370)); err == nil || !strings.Contains(err.Error(), "publish once with root.pem") {
		t.Errorf("with a root that is over: %v", err)
	}
	if _, err := os.Stat(key); err == nil {
		t.Error("another root key was made")
	}
	if err := os.Remove(filepath.Join(w.keys, "targets.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := Publish(w.rules, w.repository, w.keys, sigma.Options{}, day(301)); err == nil || !strings.Contains(err.Error(), "targets.pem is not there") {
		t.Errorf("without a key: %v", err)
	}
	move(apart, key)
	p := w.publish(day(301)) // with another key for the rules
	if !p.Expires.Equal(day(301 + 365)) {
		t.Errorf("the root is good until %v", p.Expires)
	}
	if u := w.update(day(301)); u.Version <= first.Version {
		t.Errorf("%+v after %+v", u, first)
	}
	w.publish(day(600)) // soon over: a third
	if u := w.update(day(600)); !u.Changed || w.names() != "one" {
		t.Errorf("%+v", u)
	}
	if roots, err := filepath.Glob(filepath.Join(w.repository, "metadata", "*.root.json")); err != nil || len(roots) != 3 {
		t.Errorf("%v, %v", roots, err)
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, foreignKey(t), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Publish(w.rules, w.repository, w.keys, sigma.Options{}, day(601)); err == nil || !strings.Contains(err.Error(), "not the key that the repository was made with") {
		t.Errorf("with another root key: %v", err)
	}
}

func foreignKey(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	if _, err := loadKeys(dir, true); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A host says what the rules of a source may ask for.
func TestResponsesOfASource(t *testing.T) {
	w := newWorld(t)
	w.source.Responses = []pattern.Response{pattern.AlertOnly, pattern.Block}
	if err := w.library.Add(w.source); err != nil {
		t.Fatal(err)
	}
	w.update(now)
	for response, allowed := range map[string]bool{"[block]": true, "[block, destroy]": false, "isolate": false, "alert": true} {
		write(t, filepath.Join(w.rules, "one.yml"), ruleText("one")+"warder: {response: "+response+"}\n")
		w.publish(now)
		_, err := w.library.Update(t.Context(), w.source, now)
		if (err == nil) != allowed || err != nil && !strings.Contains(err.Error(), "its rules may not ask for") {
			t.Errorf("%s: %v", response, err)
		}
	}
	// What was in force before it was forbidden is left out.
	write(t, filepath.Join(w.rules, "one.yml"), ruleText("one"))
	w.publish(now)
	w.update(now)
	w.source.Responses = []pattern.Response{pattern.Record}
	if err := w.library.Add(w.source); err != nil {
		t.Fatal(err)
	}
	if _, left, err := w.library.Load(); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	w.source.Responses = []pattern.Response{"applaud"}
	if err := w.library.Add(w.source); err == nil || !strings.Contains(err.Error(), `there is no response "applaud"`) {
		t.Errorf("error %v", err)
	}
}

// metadataFiles are those of a repository that has been published twice.
var metadataFiles = []string{"timestamp.json", "2.snapshot.json", "2.targets.json", "2.root.json", "1.root.json"}

// Metadata that is not what it should be is refused, whatever it is and of which
// role.
func FuzzMetadata(f *testing.F) {
	f.Add(uint8(0), []byte(`{"signed":{"_type":"timestamp","version":9},"signatures":[]}`))
	f.Add(uint8(0), []byte(``))
	f.Add(uint8(1), []byte(`{"signed":{"_type":"snapshot","version":2,"meta":{"targets.json":{"version":1}}},"signatures":[]}`))
	f.Add(uint8(2), []byte(`{"signed":{"_type":"targets","version":2,"targets":{"x.yml":{"length":-1}}},"signatures":[]}`))
	f.Add(uint8(3), []byte(`{"signed":{"_type":"root","version":2,"roles":{}},"signatures":[]}`))
	f.Fuzz(func(t *testing.T, file uint8, text []byte) {
		w := newWorld(t)
		w.update(now)
		write(t, filepath.Join(w.rules, "two.yml"), ruleText("two"))
		if err := os.Remove(filepath.Join(w.rules, "one.yml")); err != nil {
			t.Fatal(err)
		}
		w.publish(now)
		name := filepath.Join(w.repository, "metadata", metadataFiles[int(file)%len(metadataFiles)])
		if good, err := os.ReadFile(name); err == nil && bytes.Equal(good, text) {
			return
		}
		write(t, name, string(text))
		if filepath.Base(name) == "1.root.json" { // users have theirs
			if w.update(now); w.names() != "two" {
				t.Fatal("the root of the repository was taken, and theirs not")
			}
			return
		}
		if u, err := w.library.Update(t.Context(), w.source, now); err == nil && u.Changed {
			t.Fatalf("updated to %+v by %q", u, text)
		}
		if w.names() != "one" {
			t.Fatal("other rules are in force")
		}
	})
}
