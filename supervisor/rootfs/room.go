package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"warder/supervisor/declaration"
)

// makeRoom removes images that nobody uses, those used longest ago first, until
// all fit into the limit, and what was left behind half-made. Kept is one that
// has to stay.
func (s *Store) makeRoom(kept string) error {
	if err := s.sweep(); err != nil {
		return err
	}
	all, err := s.List()
	if err != nil {
		return err
	}
	var size int64
	for _, i := range all {
		size += i.Size
	}
	for _, i := range slices.Backward(all) {
		if size <= s.limit {
			return nil
		}
		if i.Digest == kept {
			continue
		}
		switch err := s.remove(i); {
		case errors.Is(err, errLocked):
		case err != nil:
			return err
		default:
			size -= i.Size
		}
	}
	if size > s.limit {
		return fmt.Errorf("%w: with those that are in use, images take %d MiB: there may be %d", errTooLarge, size>>20, s.limit>>20)
	}
	return nil
}

// sweep removes what processes left behind that were killed.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		digest, ok := strings.CutSuffix(e.Name(), newSuffix)
		if !ok {
			continue
		}
		unlock, err := s.tryLock("digest " + digest)
		if errors.Is(err, errLocked) {
			continue // it is being made
		}
		if err != nil {
			return err
		}
		err = os.RemoveAll(filepath.Join(s.dir, e.Name()))
		unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Remove removes an image by its digest, the beginning of one that is unique, or
// a name of a registry. It is not removed while a machine uses it.
func (s *Store) Remove(name string) (Image, error) {
	all, err := s.List()
	if err != nil {
		return Image{}, err
	}
	whole := name
	if i, err := declaration.ParseImage(name); err == nil {
		whole = i.Name
	}
	var found []Image
	const shortest = 6
	for _, i := range all {
		if slices.Contains(i.Names, whole) || len(name) >= shortest && strings.HasPrefix(i.Digest, name) {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 0:
		return Image{}, fmt.Errorf("no image %q here", clip(name))
	case len(found) > 1:
		return Image{}, fmt.Errorf("%q is of %d images: give more of the digest", clip(name), len(found))
	}
	err = s.remove(found[0])
	if errors.Is(err, errLocked) {
		err = fmt.Errorf("image %q is in use: stop the VMs that have it", clip(name))
	}
	return found[0], err
}

// remove removes an image, but for one in use. A machine that opens it at this
// moment has it, or finds none.
func (s *Store) remove(i Image) error {
	f, err := os.OpenFile(i.Path, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	defer f.Close()
	if err := ofdLock(f, unix.F_WRLCK, 0, 0); err != nil {
		return err
	}
	// The index is removed first: without one it is no image.
	dir := filepath.Join(s.dir, i.Digest)
	return errors.Join(os.Remove(filepath.Join(dir, indexName)), os.RemoveAll(dir))
}
