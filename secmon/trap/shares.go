package trap

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"warder/secmon/introspect"
)

// Shares are the directories of the host that a machine has mounted, by tag.
type Shares struct {
	byTag map[string]*share
}

type share struct {
	dir    string // canonical
	device uint64
	root   *os.Root
}

// OpenShares opens the directory of each tag. Close gives them back.
func OpenShares(dirs map[string]string) (*Shares, error) {
	s := &Shares{byTag: make(map[string]*share)}
	for tag, dir := range dirs {
		sh, err := openShare(dir)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("share %s: %w", tag, err), s.Close())
		}
		s.byTag[tag] = sh
	}
	return s, nil
}

func openShare(dir string) (*share, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// Two ways to one directory must give one name.
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	_, device := numbers(info)
	return &share{dir, device, root}, nil
}

// Close closes the directories.
func (s *Shares) Close() error {
	var errs []error
	for _, sh := range s.byTag {
		errs = append(errs, sh.root.Close())
	}
	return errors.Join(errs...)
}

// Lstat implements introspect.Shares. Package os keeps it inside the share.
func (s *Shares) Lstat(tag, path string) (introspect.Entry, error) {
	sh := s.byTag[tag]
	if sh == nil {
		return introspect.Entry{}, fmt.Errorf("no share with tag %q", tag)
	}
	name := strings.TrimPrefix(path, "/")
	if name == "" {
		name = "."
	}
	info, err := sh.root.Lstat(name)
	if err != nil {
		return introspect.Entry{}, err
	}
	e := introspect.Entry{Mode: info.Mode(), Size: info.Size()}
	e.Inode, _ = numbers(info)
	if info.Mode()&os.ModeSymlink != 0 {
		if e.Target, err = sh.root.Readlink(name); err != nil {
			return introspect.Entry{}, err
		}
	}
	return e, nil
}

// head reads what a regular file of a share begins with, at most limit bytes.
// A file that is not there any more, or another one, gives nothing.
func (s *Shares) head(tag, path string, inode uint64, limit int) []byte {
	sh := s.byTag[tag]
	if sh == nil || limit <= 0 {
		return nil
	}
	// The name may lead to a pipe by now, which must not hold us up.
	f, err := sh.root.OpenFile(strings.TrimPrefix(path, "/"), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	if now, _ := numbers(info); now != inode {
		return nil
	}
	p := make([]byte, min(info.Size(), int64(limit)))
	n, err := io.ReadFull(f, p)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil
	}
	return p[:n]
}

func numbers(info os.FileInfo) (inode, device uint64) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino, st.Dev
	}
	return 0, 0
}
