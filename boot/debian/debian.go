// Package debian fetches Debian packages with the machine's own apt
// configuration, without root and without touching the machine's state.
package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"warder/boot/deb"
)

// Backports is the Suite of newer packages for the machine's release.
const Backports = "-backports"

// A Request names packages to fetch.
type Request struct {
	Packages []string // names, without versions
	Arch     string   // GOARCH name, foreign ones included; empty for this machine's
	// Suite is empty for the machine's configured suites, or one more suite of the
	// same mirror that wins over them: a whole name, or a suffix such as
	// Backports for the machine's release.
	Suite string
	// StateDir keeps package lists between calls.
	StateDir string
	// Dir receives the .deb files. A file that is there and whole is not fetched
	// again; one that was interrupted is not there.
	Dir string
	// Progress is called from time to time when not nil.
	Progress func(Progress)
}

// Progress is how far a download is.
type Progress struct {
	What        string // "package lists" or a package's name
	Done, Total int64
	Unit        string // "bytes" or "%"
}

// Fetch downloads packages and returns the paths of the .deb files in the order
// of the request.
func Fetch(ctx context.Context, req Request) ([]string, error) {
	a, err := Open(ctx, Config{Arch: req.Arch, Suite: req.Suite, StateDir: req.StateDir, Progress: req.Progress})
	if err != nil {
		return nil, err
	}
	return a.Fetch(ctx, req.Dir, req.Packages...)
}

// Unpack writes the files of the package at path that keep accepts into dir:
// regular files, directories and links, never outside dir. keep gets
// slash-separated names without a leading "./"; nil accepts all.
func Unpack(path, dir string, keep func(name string) bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	p, err := deb.Parse(f, st.Size())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := p.Unpack(dir, keep); err != nil {
		return fmt.Errorf("unpack %s: %w", path, err)
	}
	return nil
}

// Config says what an Archive is opened for; its fields are those of Request.
type Config struct {
	Arch     string
	Suite    string
	StateDir string
	Progress func(Progress)
}

// An Archive is what apt knows of the machine's package sources.
type Archive struct {
	apt      apt
	progress func(Progress)
}

// ErrNotFound is returned for packages that the sources do not have.
var ErrNotFound = errors.New("not in this machine's package sources")

// Open brings the package lists up to date.
func Open(ctx context.Context, cfg Config) (*Archive, error) {
	if cfg.Progress == nil {
		cfg.Progress = func(Progress) {}
	}
	apt, err := newApt(cfg)
	if err != nil {
		return nil, err
	}
	unlock, err := Lock(ctx, filepath.Join(apt.dir, "lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := apt.setUp(ctx); err != nil {
		return nil, err
	}
	a := &Archive{apt: apt, progress: cfg.Progress}
	if err := a.update(ctx); err != nil {
		return nil, err
	}
	if apt.suite == "" {
		return a, nil
	}
	added, err := apt.addSuite(ctx)
	if err == nil && added {
		err = a.update(ctx)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Archive) update(ctx context.Context) error {
	err := a.apt.get(ctx, "", func(percent float64) {
		a.progress(Progress{What: "package lists", Done: int64(percent), Total: 100, Unit: "%"})
	}, "update")
	if err != nil {
		return fmt.Errorf("package lists: %w", err)
	}
	return nil
}

// Show returns the control fields of the package that Fetch would fetch.
func (a *Archive) Show(ctx context.Context, name string) (map[string]string, error) {
	out, err := a.apt.cache(ctx, "show", "--no-all-versions", name)
	if err != nil {
		return nil, err
	}
	return deb.ParseControl(out), nil
}

// Fetch downloads packages into dir and returns the paths of the .deb files.
func (a *Archive) Fetch(ctx context.Context, dir string, names ...string) ([]string, error) {
	files, err := a.apt.locate(ctx, names)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var paths []string
	for i, f := range files {
		path := filepath.Join(dir, f.name)
		if !f.whole(path) {
			if err := a.download(ctx, dir, names[i], f); err != nil {
				return nil, fmt.Errorf("%s: %w", names[i], err)
			}
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// download fetches one package beside its place and moves it there when it is
// whole.
func (a *Archive) download(ctx context.Context, dir, name string, f file) error {
	tmp, err := os.MkdirTemp(dir, ".fetch-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	report := func(percent float64) {
		a.progress(Progress{What: name, Done: min(int64(percent/100*float64(f.size)), f.size), Total: f.size, Unit: "bytes"})
	}
	if err := a.apt.get(ctx, tmp, report, "download", name); err != nil {
		return err
	}
	got, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(got) != 1 {
		return fmt.Errorf("apt-get download left %d packages", len(got))
	}
	if !f.whole(got[0]) {
		return fmt.Errorf("%s is not what the package lists promised", filepath.Base(got[0]))
	}
	return os.Rename(got[0], filepath.Join(dir, f.name))
}

// Depends lists the first alternative of each package that control fields name
// in Depends, without versions.
func Depends(control map[string]string) (names []string) {
	for clause := range strings.SplitSeq(control["Depends"], ",") {
		first, _, _ := strings.Cut(clause, "|")
		if f := strings.Fields(first); len(f) > 0 {
			name, _, _ := strings.Cut(f[0], ":")
			names = append(names, name)
		}
	}
	return names
}
