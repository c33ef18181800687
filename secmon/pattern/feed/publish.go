package feed

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"warder/secmon/pattern"
	"warder/secmon/pattern/sigma"
)

// How long what is signed is good for. The timestamp has to be renewed, by
// publishing again, before it expires: a mirror that stands still is noticed.
const (
	rootTime      = 365 * 24 * time.Hour
	rootRenewal   = 90 * 24 * time.Hour // before it expires
	targetsTime   = 90 * 24 * time.Hour
	timestampTime = 7 * 24 * time.Hour
)

// Published is what Publish did.
type Published struct {
	Pack    Pack
	Version int64 // of the repository
	Files   int
	// Root is the file that users of the repository need to trust it; Expires is
	// until when the root is good.
	Root    string
	Expires time.Time
}

// Publish makes, or renews, the repository in the directory out from the rules
// in dir, signed with the keys in keyDir, which are made where there are none.
// Rules with a fault, or whose samples come out wrong, are not published; opts are
// what they are tried with.
func Publish(dir, out, keyDir string, opts sigma.Options, now time.Time) (Published, error) {
	fsys := os.DirFS(dir)
	pack, err := readPack(fsys)
	if err != nil {
		return Published{}, fmt.Errorf("%s: %w", dir, err)
	}
	if err := check(fsys, opts); err != nil {
		return Published{}, err
	}
	p := &publisher{out: out, now: now}
	if p.keys, err = loadKeys(keyDir, !p.exists()); err != nil {
		return Published{}, fmt.Errorf("keys: %w", err)
	}
	files, err := p.publish(fsys)
	if err != nil {
		return Published{}, fmt.Errorf("publish %s: %w", pack.Name, err)
	}
	return Published{pack, p.version, files, p.rootFile(1), p.expires}, nil
}

// check loads rules and runs their samples.
func check(fsys fs.FS, opts sigma.Options) error {
	l, err := pattern.Load(fsys, opts)
	if err != nil {
		return err
	}
	_, failures, err := l.Test()
	if err != nil {
		return err
	}
	var errs []error
	for _, f := range failures {
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

type publisher struct {
	out     string
	keys    keys
	now     time.Time
	version int64
	expires time.Time // of the root
}

func (p *publisher) publish(fsys fs.FS) (files int, err error) {
	for _, d := range []string{"metadata", "targets"} {
		if err := os.MkdirAll(filepath.Join(p.out, d), 0o755); err != nil {
			return 0, err
		}
	}
	if err := p.root(); err != nil {
		return 0, fmt.Errorf("root: %w", err)
	}
	if p.version, err = p.last(); err != nil {
		return 0, err
	}
	p.version++
	targets := metadata.Targets(p.now.Add(targetsTime))
	targets.Signed.Version = p.version
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !safeName(name) {
			return err
		}
		files++
		return p.target(fsys, name, targets)
	})
	if err != nil {
		return 0, err
	}
	snapshot := metadata.Snapshot(p.now.Add(targetsTime))
	snapshot.Signed.Version = p.version
	snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(p.version)
	timestamp := metadata.Timestamp(p.now.Add(timestampTime))
	timestamp.Signed.Version = p.version
	timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(p.version)
	// The timestamp last: until it is there the repository is what it was.
	return files, errors.Join(
		sign(p, "targets", targets, fmt.Sprintf("%d.targets.json", p.version)),
		sign(p, "snapshot", snapshot, fmt.Sprintf("%d.snapshot.json", p.version)),
		sign(p, "timestamp", timestamp, "timestamp.json"),
	)
}

// last is the version of what was published before, 0 for nothing.
func (p *publisher) last() (int64, error) {
	text, err := os.ReadFile(filepath.Join(p.out, "metadata", "timestamp.json"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	var t struct {
		Signed struct {
			Version int64 `json:"version"`
		} `json:"signed"`
	}
	if err == nil {
		err = json.Unmarshal(text, &t)
	}
	return t.Signed.Version, err
}

// target puts a file into the repository.
func (p *publisher) target(fsys fs.FS, name string, targets *metadata.Metadata[metadata.TargetsType]) error {
	text, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	if len(text) > maxFile {
		return fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	info, err := metadata.TargetFile().FromBytes(name, text, "sha256")
	if err != nil {
		return err
	}
	targets.Signed.Targets[name] = info
	sum := sha256.Sum256(text)
	at := filepath.Join(p.out, "targets", filepath.FromSlash(path.Dir(name)), hex.EncodeToString(sum[:])+"."+path.Base(name))
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	return replace(at, text)
}

// sign signs metadata and writes it.
func sign[T metadata.Roles](p *publisher, role string, m *metadata.Metadata[T], name string) error {
	signer, err := p.keys.signer(role)
	if err != nil {
		return err
	}
	if _, err := m.Sign(signer); err != nil {
		return err
	}
	text, err := m.ToBytes(false)
	if err != nil {
		return err
	}
	return replace(filepath.Join(p.out, "metadata", name), text)
}

// replace makes a file appear as a whole.
func replace(name string, text []byte) error {
	tmp := name + ".new"
	if err := os.WriteFile(tmp, text, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
