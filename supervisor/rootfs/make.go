package rootfs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"warder/supervisor/rootfs/erofs"
)

// make makes an image that the store does not have, of the tree that plant gives,
// and gives the one of that digest. It has the name from then on, if one is given,
// and no other has. What checks say before the image is there counts.
func (s *Store) make(ctx context.Context, i Image, name string, plant func(*builder) (*tree, error), checks ...func() error) (*Lease, error) {
	unlock, err := s.lock(ctx, "digest "+i.Digest)
	if err != nil {
		return nil, err
	}
	defer unlock()
	l, err := s.lease(i.Digest)
	made := l == nil && err == nil
	if made {
		if err = s.build(ctx, i, plant, checks); err == nil {
			l, err = s.lease(i.Digest)
		}
		if l == nil && err == nil {
			err = errors.New("it was removed at once")
		}
	}
	if err != nil {
		return nil, err
	}
	if name != "" {
		err = s.setName(ctx, i.Digest, name)
	}
	if err == nil {
		err = s.makeRoom(i.Digest)
	}
	if err != nil {
		err = errors.Join(err, l.Close())
		if made {
			err = errors.Join(err, s.remove(l.Image))
		}
		return nil, err
	}
	return l, nil
}

// build makes an image. Nothing of it is there when it fails.
func (s *Store) build(ctx context.Context, i Image, plant func(*builder) (*tree, error), checks []func() error) (err error) {
	dir := filepath.Join(s.dir, i.Digest+newSuffix)
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil { // of one that was killed
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	spool, err := os.Create(filepath.Join(dir, "spool"))
	if err != nil {
		return err
	}
	defer spool.Close()
	if err := os.Remove(spool.Name()); err != nil {
		return err
	}
	t, err := plant(&builder{tree: newTree(), spool: spool, most: s.limit})
	if err != nil {
		return err
	}
	if i.Size, err = s.write(ctx, filepath.Join(dir, rootName), t.root); err != nil {
		return err
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	i.Arch, i.Made = s.arch, time.Now()
	if err := writeIndex(dir, i); err != nil {
		return err
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	to := filepath.Join(s.dir, i.Digest)
	if err := os.RemoveAll(to); err != nil { // what was left of one that was being removed
		return err
	}
	return os.Rename(dir, to)
}

// write writes a file system and gives its size.
func (s *Store) write(ctx context.Context, path string, root *erofs.Node) (int64, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := erofs.Write(&writing{f, ctx, s.limit, s.progress}, root)
	if err != nil {
		return 0, err
	}
	return n, errors.Join(f.Sync(), f.Close())
}

// writing tells of what is written, and ends with its context.
type writing struct {
	f        *os.File
	ctx      context.Context
	left     int64
	progress Progress
}

func (w *writing) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	if w.left -= int64(len(p)); w.left < 0 {
		return 0, fmt.Errorf("%w: the images of this machine may not take as much", errTooLarge)
	}
	n, err := w.f.Write(p)
	if at, e := w.f.Seek(0, io.SeekCurrent); e == nil {
		w.progress("write the file system", at>>20, 0, "MiB")
	}
	return n, err
}

func writeIndex(dir string, i Image) error {
	text, err := json.MarshalIndent(i, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, indexName+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, indexName))
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// setName has an image alone have a registry's name.
func (s *Store) setName(ctx context.Context, digest, name string) error {
	unlock, err := s.lock(ctx, "names")
	if err != nil {
		return err
	}
	defer unlock()
	all, err := s.List()
	if err != nil {
		return err
	}
	for _, i := range all {
		has := slices.Contains(i.Names, name)
		switch {
		case i.Digest == digest && !has:
			i.Names = append(i.Names, name)
		case i.Digest != digest && has && i.Arch == s.arch:
			i.Names = slices.DeleteFunc(i.Names, func(n string) bool { return n == name })
		default:
			continue
		}
		if err := writeIndex(filepath.Join(s.dir, i.Digest), i); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
