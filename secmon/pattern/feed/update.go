package feed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"warder/secmon/pattern"
)

// Updated is what an update did.
type Updated struct {
	Pack    Pack
	Version int64 // of the repository
	Rules   int
	Changed bool // other rules than before are in force
}

// Update gets what a source publishes now, and puts it in force if all of it is
// good. now is what expiry is measured by.
func (l *Library) Update(ctx context.Context, s Source, now time.Time) (Updated, error) {
	got, err := l.update(ctx, s, now)
	if err != nil {
		return got, fmt.Errorf("source %s is not updated: %w", s.Name, explain(err))
	}
	return got, nil
}

func (l *Library) update(ctx context.Context, s Source, now time.Time) (got Updated, err error) {
	unlock, err := l.lock()
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	dir := filepath.Join(l.Dir, s.Name)
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
	got = Updated{Version: version, Changed: true}
	if to, err := os.Readlink(filepath.Join(dir, current)); err == nil && to == filepath.Base(rules) {
		got.Changed = false
		if got.Pack, err = readPack(os.DirFS(rules)); err != nil {
			return got, err
		}
		in, err := l.inForce(s)
		got.Rules = len(in)
		return got, err
	}
	staged := rules + ".new"
	if err := os.RemoveAll(staged); err != nil {
		return got, err
	}
	if err := download(u, staged); err != nil {
		return got, errors.Join(err, os.RemoveAll(staged))
	}
	if got.Pack, got.Rules, err = l.checked(s, staged); err != nil {
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

// checked loads what was staged together with the rules of all other sources.
func (l *Library) checked(s Source, staged string) (Pack, int, error) {
	pack, err := readPack(os.DirFS(staged))
	if err != nil {
		return pack, 0, err
	}
	dir := path.Join(s.Name, filepath.Base(staged))
	rules, err := pattern.ReadRulesIn(os.DirFS(l.Dir), dir, l.Options)
	if err != nil {
		return pack, 0, err
	}
	n := len(rules)
	others, err := l.base()
	if err != nil {
		return pack, 0, err
	}
	rules = append(rules, others...)
	sources, err := l.Sources()
	if err != nil {
		return pack, 0, err
	}
	for _, o := range sources {
		if o.Name == s.Name {
			continue
		}
		if more, err := l.inForce(o); err == nil { // else it is left out, as by Load
			rules = append(rules, more...)
		}
	}
	all, err := pattern.NewLibrary(rules)
	if err == nil {
		err = s.permits(all, dir)
	}
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
