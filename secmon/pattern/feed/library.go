package feed

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"golang.org/x/sys/unix"

	"warder/secmon/pattern"
	"warder/secmon/pattern/sigma"
)

// Library is the rules of several sources in a directory, beside rules that are
// there without one.
type Library struct {
	// Dir is the directory. Each source has one of its own in it.
	Dir string
	// Base reads the rules that are there without a source. Default: those that
	// come with warder.
	Base func() ([]*sigma.Rule, error)
	// Options are what the rules of sources are read with.
	Options sigma.Options
	// Only are the names of the sources that are used; nil for all.
	Only []string
}

// Source is somebody whose rules are used, with what shows that they are theirs.
type Source struct {
	Name string `json:"name"` // of its directory, as of a pack
	// URL is of the repository: http, https, or file for a directory of this
	// machine.
	URL string `json:"url"`
	// Root is the root of trust, 1.root.json of the publisher.
	Root json.RawMessage `json:"root"`
	// Responses are those that its rules may ask for; nil for all.
	Responses []pattern.Response `json:"responses,omitempty"`
}

// permits says whether the rules of a library that were read from dir ask for no
// more than the source may.
func (s Source) permits(l *pattern.Library, dir string) error {
	if s.Responses == nil {
		return nil
	}
	for _, r := range l.Rules {
		if !strings.HasPrefix(r.File(), dir+"/") {
			continue
		}
		for _, x := range r.Responses {
			if !slices.Contains(s.Responses, x) {
				return r.Fault(r.Pos, "its rules may not ask for %s here, and %q does", x, r.Title)
			}
		}
	}
	return nil
}

// In a source's directory: the source itself, what TUF remembers, the rules by
// version, and a link to those in force.
const (
	sourceFile = "source.json"
	trustDir   = "trust"
	current    = "current"
)

// Add remembers a source. It has no rules until it is updated. One of that name
// is replaced; with another root of trust, what it said before is forgotten, and
// its rules stay in force until it is updated.
func (l *Library) Add(s Source) error {
	if !packName.MatchString(s.Name) {
		return fmt.Errorf("source %q: give a name of letters a to z, digits, - inside", s.Name)
	}
	if !slices.ContainsFunc([]string{"https://", "http://", "file://"}, func(p string) bool { return strings.HasPrefix(s.URL, p) }) {
		return fmt.Errorf("source %s: %q: give an address that begins with https://, http:// or file://", s.Name, s.URL)
	}
	for _, r := range s.Responses {
		if !slices.Contains(pattern.Responses, r) {
			return fmt.Errorf("source %s: there is no response %q", s.Name, r)
		}
	}
	if _, err := (&metadata.Metadata[metadata.RootType]{}).FromBytes(s.Root); err != nil {
		return fmt.Errorf("source %s: the root of trust: %w", s.Name, err)
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	dir := filepath.Join(l.Dir, s.Name)
	if old, err := readSource(filepath.Join(dir, sourceFile)); err == nil && !sameJSON(old.Root, s.Root) {
		if err := os.RemoveAll(filepath.Join(dir, trustDir)); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, trustDir), 0o755); err != nil {
		return err
	}
	return replace(filepath.Join(dir, sourceFile), text)
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// Sources are those that are used, by name.
func (l *Library) Sources() ([]Source, error) {
	if l.Dir == "" {
		return nil, nil
	}
	names, err := filepath.Glob(filepath.Join(l.Dir, "*", sourceFile))
	if err != nil {
		return nil, err
	}
	var out []Source
	for _, name := range names {
		if l.Only != nil && !slices.Contains(l.Only, filepath.Base(filepath.Dir(name))) {
			continue
		}
		s, err := readSource(name)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func readSource(name string) (Source, error) {
	var s Source
	text, err := os.ReadFile(name)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// Load reads the rules in force of all sources, and those without one, as one
// library. Sources whose rules cannot be used any more are left out and told of
// in left; what is wrong with the others is an error.
func (l *Library) Load() (out *pattern.Library, left []error, err error) {
	rules, err := l.base()
	if err != nil {
		return nil, nil, err
	}
	out, err = pattern.NewLibrary(rules)
	if err != nil {
		return nil, nil, err
	}
	sources, err := l.Sources()
	if err != nil {
		return nil, nil, err
	}
	for _, s := range sources {
		more, err := l.inForce(s)
		if err == nil && more != nil {
			var with *pattern.Library
			if with, err = pattern.NewLibrary(slices.Concat(rules, more)); err == nil {
				err = s.permits(with, path.Join(s.Name, current))
			}
			if err == nil {
				rules, out = slices.Concat(rules, more), with
			}
		}
		if err != nil {
			left = append(left, fmt.Errorf("source %s: %w", s.Name, err))
		}
	}
	return out, left, nil
}

func (l *Library) base() ([]*sigma.Rule, error) {
	if l.Base == nil {
		return pattern.ShippedRules()
	}
	return l.Base()
}

// inForce reads the rules of a source, none where it has not been updated yet.
func (l *Library) inForce(s Source) ([]*sigma.Rule, error) {
	rules, err := pattern.ReadRulesIn(os.DirFS(l.Dir), path.Join(s.Name, current), l.Options)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return rules, err
}

// Pack says what of a source is in force; ok is false where nothing is.
func (l *Library) Pack(s Source) (p Pack, ok bool) {
	p, err := readPack(os.DirFS(filepath.Join(l.Dir, s.Name, current)))
	return p, err == nil
}

// errBusy is the error for a library that another process changes.
var errBusy = errors.New("another update of this library is under way")

// lock keeps other processes from changing the library.
func (l *Library) lock() (unlock func() error, err error) {
	f, err := os.OpenFile(filepath.Join(l.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, errBusy
	}
	return f.Close, nil
}
