package rootfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"warder/boot"
	"warder/supervisor/declaration"
)

// Options are what a Store is opened with.
type Options struct {
	// Dir is the store's directory. Default: "images" in warder's cache directory.
	Dir string
	// Limit is how many bytes all images may take together, and the files of one
	// may have. Default: a quarter of the file system of Dir, 20 GiB at the most.
	Limit int64
	// Arch is of the guests, a GOARCH name. Default: this machine's.
	Arch string
	// Progress is told how far work is when it is not nil.
	Progress Progress
}

// A Store keeps the file systems that were made. It is safe for concurrent use,
// also with other processes.
type Store struct {
	dir      string
	limit    int64
	arch     string
	progress Progress
}

// revision is of the form in which images are kept; those of another one are none.
const revision = "1"

const defaultLimit = 20 << 30

// Open opens a store, whose directory is made where there is none.
func Open(o Options) (*Store, error) {
	if o.Dir == "" {
		cache, err := boot.CacheDir()
		if err != nil {
			return nil, err
		}
		o.Dir = filepath.Join(cache, "images")
	}
	s := &Store{dir: filepath.Join(o.Dir, revision), limit: o.Limit, arch: o.Arch, progress: o.Progress}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	if s.arch == "" {
		s.arch = runtime.GOARCH
	}
	if s.progress == nil {
		s.progress = func(string, int64, int64, string) {}
	}
	if s.limit == 0 {
		var st unix.Statfs_t
		if err := unix.Statfs(s.dir, &st); err != nil {
			return nil, fmt.Errorf("%s: %w", s.dir, err)
		}
		s.limit = defaultLimit
		if size := int64(st.Blocks) * st.Bsize; size > 0 { // one in memory may not say
			s.limit = min(size/4, defaultLimit)
		}
	}
	return s, nil
}

// An Image is one that was made.
type Image struct {
	Digest string    `json:"digest"`          // what it was made of, SHA-256
	Names  []string  `json:"names,omitempty"` // of registries, by which it was asked for
	Arch   string    `json:"arch"`
	Made   time.Time `json:"made"`
	Size   int64     `json:"size"` // of its file system, in bytes
	Config Config    `json:"config"`

	Used time.Time `json:"-"` // the last time
	Path string    `json:"-"` // of its file system
	// FileSystem is of which kind that of a disk image is, as Linux calls it, and Offset
	// where it begins in Path, in bytes. One that was made is all of Path, and "" here.
	FileSystem string `json:"-"`
	Offset     int64  `json:"-"`
}

const (
	rootName  = "root.erofs"
	indexName = "image.json"
	newSuffix = ".new"
)

// A Lease is an image that stays in the store until it is closed.
type Lease struct {
	Image
	held *os.File
}

// Close ends the lease. Whoever has the file system open keeps it. A nil lease is
// of nothing.
func (l *Lease) Close() error {
	if l == nil {
		return nil
	}
	return l.held.Close()
}

// Get gives an image, which it makes when the store does not have it. What a
// registry has under a name it is asked for once: see Pull.
func (s *Store) Get(ctx context.Context, i declaration.Image) (*Lease, error) {
	return s.get(ctx, i, false)
}

// Pull is Get that asks a registry also for what the store has, for there may be
// something newer of that name.
func (s *Store) Pull(ctx context.Context, i declaration.Image) (*Lease, error) {
	return s.get(ctx, i, true)
}

func (s *Store) get(ctx context.Context, i declaration.Image, anew bool) (*Lease, error) {
	switch i.Kind {
	case declaration.ImageDisk:
		l, err := s.ofDisk(i)
		return l, wrap(i, err)
	case declaration.ImageDir:
		l, err := s.ofDirectory(ctx, i)
		return l, wrap(i, err)
	case declaration.ImageMade:
		l, err := (&Store{dir: filepath.Dir(i.Name)}).lease(filepath.Base(i.Name))
		if l == nil && err == nil {
			err = errors.New("there is none")
		}
		return l, wrap(i, err)
	}
	if i.Kind == declaration.ImageRegistry {
		asked := time.Now()
		unlock, err := s.lock(ctx, "name "+i.Name)
		if err != nil {
			return nil, wrap(i, err)
		}
		defer unlock()
		l, err := s.byName(i.Name)
		// What came while this one waited is new enough.
		if err != nil || l != nil && (!anew || l.Made.After(asked)) {
			return l, wrap(i, err)
		}
	}
	l, err := s.ofLayers(ctx, i)
	return l, wrap(i, err)
}

func wrap(i declaration.Image, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("image %s: %w", clip(i.String()), err)
}

// ofLayers makes an image of the layers that it has, unless that was done.
func (s *Store) ofLayers(ctx context.Context, i declaration.Image) (*Lease, error) {
	s.progress("look for "+clip(i.String()), 0, 0, "")
	c, err := openImage(ctx, i, s.arch)
	if err != nil {
		return nil, err
	}
	defer c.close()
	config, err := c.defaults()
	if err != nil {
		return nil, err
	}
	name := ""
	if i.Kind == declaration.ImageRegistry {
		name = i.Name
	}
	return s.make(ctx, Image{Digest: c.digest(), Config: config}, name, func(b *builder) (*tree, error) {
		err := b.unpack(ctx, c, s.progress)
		if err == nil && config.Dir != "" { // container tools make it
			var parts []string
			if parts, err = split(path.Clean(config.Dir)); err == nil {
				_, err = b.tree.dir(parts, true)
			}
		}
		return b.tree, err
	})
}

// ofDirectory makes an image of a directory as it is now, unless that was done.
func (s *Store) ofDirectory(ctx context.Context, i declaration.Image) (*Lease, error) {
	s.progress("look at the files", 0, 0, "")
	d, err := readDirectory(i.Name, s.limit)
	if err != nil {
		return nil, err
	}
	defer d.root.Close()
	return s.make(ctx, Image{Digest: d.digest()}, "", func(*builder) (*tree, error) { return d.tree, nil }, d.unchanged)
}

// byName gives the image that a registry had under a name when it was asked, nil
// if it was not.
func (s *Store) byName(name string) (*Lease, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	for _, i := range all {
		if i.Arch == s.arch && slices.Contains(i.Names, name) {
			return s.lease(i.Digest)
		}
	}
	return nil, nil
}

// List gives all images, those used last first.
func (s *Store) List() ([]Image, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	var all []Image
	for _, e := range entries {
		i, err := s.read(e.Name())
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || filepath.Ext(e.Name()) != "" {
			continue // no image, or one that was removed at this moment
		}
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b Image) int { return b.Used.Compare(a.Used) })
	return all, nil
}

// read reads what is known of an image.
func (s *Store) read(digest string) (Image, error) {
	dir := filepath.Join(s.dir, digest)
	text, err := os.ReadFile(filepath.Join(dir, indexName))
	if err != nil {
		return Image{}, err
	}
	var i Image
	if err := json.Unmarshal(text, &i); err != nil || i.Digest != digest {
		return i, errors.Join(fmt.Errorf("%s is damaged: remove it", dir), err)
	}
	i.Path = filepath.Join(dir, rootName)
	st, err := os.Stat(i.Path)
	if err != nil {
		return i, err
	}
	i.Used = st.ModTime()
	return i, nil
}

// lease keeps an image in the store, nil when there is none.
func (s *Store) lease(digest string) (*Lease, error) {
	i, err := s.read(digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(i.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// As a machine does that has it open.
	if err := ofdLock(f, unix.F_RDLCK, 0, 0); err != nil {
		f.Close()
		if errors.Is(err, errLocked) { // it is being removed
			return nil, nil
		}
		return nil, err
	}
	if st, err := os.Stat(i.Path); err != nil || st.Size() != i.Size {
		f.Close()
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, errors.Join(fmt.Errorf("%s is damaged: remove its directory", i.Path), err)
	}
	now := time.Now()
	return &Lease{i, f}, os.Chtimes(i.Path, now, now)
}
