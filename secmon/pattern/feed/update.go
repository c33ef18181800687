package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"warder/secmon/pattern"
	"warder/secmon/pattern/sigma"
)

// Source is somebody whose rules are used, with what shows that they are theirs.
type Source struct {
	Name string `json:"name"` // of its directory, as of a pack
	// URL is of the repository: http, https, or file for a directory of this
	// machine.
	URL string `json:"url"`
	// Root is the root of trust, 1.root.json of the publisher.
	Root json.RawMessage `json:"root"`
}

// Updated is what an update did.
type Updated struct {
	Pack    Pack
	Version int64 // of the repository
	Rules   int
	Changed bool // other rules than before are in force
}

// In a source's directory: the source itself, what TUF remembers, the rules by
// version, and a link to those in force.
const (
	sourceFile = "source.json"
	trustDir   = "trust"
	current    = "current"
)

// Add remembers a source in a library's directory. It has no rules until it is
// updated.
func Add(library string, s Source) error {
	if !packName.MatchString(s.Name) {
		return fmt.Errorf("source %q: give a name of letters a to z, digits, - inside", s.Name)
	}
	if !slices.ContainsFunc([]string{"https://", "http://", "file://"}, func(p string) bool { return strings.HasPrefix(s.URL, p) }) {
		return fmt.Errorf("source %s: %q: give an address that begins with https://, http:// or file://", s.Name, s.URL)
	}
	if _, err := (&metadata.Metadata[metadata.RootType]{}).FromBytes(s.Root); err != nil {
		return fmt.Errorf("source %s: the root of trust: %w", s.Name, err)
	}
	dir := filepath.Join(library, s.Name)
	if err := os.MkdirAll(filepath.Join(dir, trustDir), 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return replace(filepath.Join(dir, sourceFile), text)
}

// Sources are those of a library's directory, by name.
func Sources(library string) ([]Source, error) {
	names, err := filepath.Glob(filepath.Join(library, "*", sourceFile))
	if err != nil {
		return nil, err
	}
	var out []Source
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		var s Source
		if err := json.Unmarshal(text, &s); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, s)
	}
	return out, nil
}

// Load reads the rules in force of all sources of a library's directory, and
// those that come with warder, as one library.
func Load(library string) (*pattern.Library, error) {
	rules, err := pattern.ShippedRules()
	if err != nil {
		return nil, err
	}
	sources, err := Sources(library)
	if err != nil {
		return nil, err
	}
	for _, s := range sources {
		dir := filepath.Join(library, s.Name, current)
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			continue // not updated yet
		}
		more, err := pattern.ReadRules(os.DirFS(dir), sigma.Options{})
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", s.Name, err)
		}
		rules = append(rules, more...)
	}
	return pattern.NewLibrary(rules)
}

// Update gets what a source publishes now, and puts it in force in a library's
// directory if all of it is good. now is what expiry is measured by.
func (s Source) Update(ctx context.Context, library string, now time.Time) (Updated, error) {
	got, err := s.update(ctx, filepath.Join(library, s.Name), library, now)
	if err != nil {
		return got, fmt.Errorf("source %s: %w; the rules of before stay in force", s.Name, explain(err))
	}
	return got, nil
}

func (s Source) update(ctx context.Context, dir, library string, now time.Time) (Updated, error) {
	u, err := s.updater(ctx, dir, now)
	if err != nil {
		return Updated{}, err
	}
	if err := u.Refresh(); err != nil {
		return Updated{}, err
	}
	trusted := u.GetTrustedMetadataSet()
	version := trusted.Targets[metadata.TARGETS].Signed.Version
	rules := filepath.Join(dir, strconv.FormatInt(version, 10))
	got := Updated{Version: version, Changed: true}
	if to, err := os.Readlink(filepath.Join(dir, current)); err == nil && to == filepath.Base(rules) {
		got.Changed = false
		if got.Pack, err = readPack(os.DirFS(rules)); err != nil {
			return got, err
		}
		l, err := pattern.Load(os.DirFS(rules), sigma.Options{})
		if err == nil {
			got.Rules = len(l.Rules)
		}
		return got, err
	}
	staged := rules + ".new"
	if err := os.RemoveAll(staged); err != nil {
		return got, err
	}
	if err := download(u, staged); err != nil {
		return got, errors.Join(err, os.RemoveAll(staged))
	}
	if got.Pack, got.Rules, err = s.checked(staged, library); err != nil {
		return got, errors.Join(err, os.RemoveAll(staged))
	}
	return got, enforce(dir, staged, rules)
}

func (s Source) updater(ctx context.Context, dir string, now time.Time) (*updater.Updater, error) {
	base := strings.TrimSuffix(s.URL, "/")
	cfg, err := config.New(base+"/metadata", s.Root)
	if err != nil {
		return nil, err
	}
	cfg.LocalMetadataDir = filepath.Join(dir, trustDir)
	cfg.LocalTargetsDir = filepath.Join(dir, trustDir)
	cfg.RemoteTargetsURL = base + "/targets"
	cfg.PrefixTargetsWithHash = true
	cfg.Fetcher = &fetcher{ctx, &http.Client{Timeout: time.Minute}}
	u, err := updater.New(cfg)
	if err != nil {
		return nil, err
	}
	u.UnsafeSetRefTime(now)
	return u, nil
}

// download gets all files of a repository into a directory.
func download(u *updater.Updater, dir string) error {
	targets := u.GetTopLevelTargets()
	if len(targets) > maxFiles {
		return fmt.Errorf("%d files, at most %d are taken", len(targets), maxFiles)
	}
	total := int64(0)
	for _, name := range slices.Sorted(maps.Keys(targets)) {
		info := targets[name]
		if !safeName(name) {
			return fmt.Errorf("a file with the name %q is not taken", name)
		}
		if total += info.Length; info.Length > maxFile || total > maxTotal {
			return fmt.Errorf("%s: %d bytes, at most %d a file and %d in all are taken", name, info.Length, maxFile, maxTotal)
		}
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		info.Path = name
		if _, _, err := u.DownloadTarget(info, at, ""); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// checked loads what was staged: by itself, and together with the rules of all
// other sources.
func (s Source) checked(staged, library string) (Pack, int, error) {
	pack, err := readPack(os.DirFS(staged))
	if err != nil {
		return pack, 0, err
	}
	rules, err := pattern.ReadRules(os.DirFS(staged), sigma.Options{})
	if err != nil {
		return pack, 0, err
	}
	n := len(rules)
	others, err := pattern.ShippedRules()
	if err != nil {
		return pack, 0, err
	}
	rules = append(rules, others...)
	sources, err := Sources(library)
	if err != nil {
		return pack, 0, err
	}
	for _, o := range sources {
		if o.Name == s.Name {
			continue
		}
		more, err := pattern.ReadRules(os.DirFS(filepath.Join(library, o.Name, current)), sigma.Options{})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return pack, 0, fmt.Errorf("source %s: %w", o.Name, err)
		}
		rules = append(rules, more...)
	}
	_, err = pattern.NewLibrary(rules)
	return pack, n, err
}

// enforce makes staged rules those in force, in one step, and deletes others.
func enforce(dir, staged, rules string) error {
	if err := os.RemoveAll(rules); err != nil {
		return err
	}
	if err := os.Rename(staged, rules); err != nil {
		return err
	}
	link := filepath.Join(dir, current)
	if err := os.RemoveAll(link + ".new"); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Base(rules), link+".new"); err != nil {
		return err
	}
	if err := os.Rename(link+".new", link); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if n, perr := strconv.ParseInt(e.Name(), 10, 64); perr == nil && strconv.FormatInt(n, 10) != filepath.Base(rules) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// explain says of what kind a refusal is.
func explain(err error) error {
	var (
		expired  *metadata.ErrExpiredMetadata
		version  *metadata.ErrBadVersionNumber
		equal    *metadata.ErrEqualVersionNumber
		unsigned *metadata.ErrUnsignedMetadata
		hash     *metadata.ErrLengthOrHashMismatch
		length   *metadata.ErrDownloadLengthMismatch
	)
	switch {
	case errors.As(err, &expired):
		return fmt.Errorf("what it says has expired, so that it may be old: %w", err)
	case errors.As(err, &version), errors.As(err, &equal):
		return fmt.Errorf("it has gone back to an older state: %w", err)
	case errors.As(err, &unsigned):
		return fmt.Errorf("it is not signed by who should have signed it: %w", err)
	case errors.As(err, &hash), errors.As(err, &length):
		return fmt.Errorf("a file is not what was signed: %w", err)
	}
	return err
}
