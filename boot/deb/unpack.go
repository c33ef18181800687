package deb

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
)

// maxUnpacked bounds what one package may write, in bytes.
const maxUnpacked = 8 << 30

// Unpack writes the files of the package that keep accepts into dir: regular
// files, directories and links. Nothing is written outside of dir, whatever
// names and links the package has. keep gets clean names without a leading
// slash; nil accepts all.
func (p *Package) Unpack(dir string, keep func(name string) bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	left := int64(maxUnpacked)
	return p.Walk(func(h *tar.Header, content io.Reader) error {
		if h.Name == "" || keep != nil && !keep(h.Name) {
			return nil
		}
		if left -= h.Size; left < 0 {
			return fmt.Errorf("more than %d bytes", int64(maxUnpacked))
		}
		return unpack(root, h, content)
	})
}

func unpack(root *os.Root, h *tar.Header, content io.Reader) error {
	if err := root.MkdirAll(path.Dir(h.Name), 0o755); err != nil {
		return err
	}
	mode := h.FileInfo().Mode().Perm()
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.MkdirAll(h.Name, 0o755); err != nil {
			return err
		}
		return root.Chmod(h.Name, mode|0o700) // we have to write into it
	case tar.TypeReg:
		return unpackFile(root, h, mode, content)
	case tar.TypeSymlink:
		if err := remove(root, h.Name); err != nil {
			return err
		}
		return root.Symlink(h.Linkname, h.Name)
	case tar.TypeLink:
		if err := remove(root, h.Name); err != nil {
			return err
		}
		return root.Link(path.Clean(h.Linkname), h.Name)
	}
	return nil // devices and the like are nothing that can be unpacked without root
}

func unpackFile(root *os.Root, h *tar.Header, mode fs.FileMode, content io.Reader) error {
	// What is there may be a link that leads elsewhere.
	if err := remove(root, h.Name); err != nil {
		return err
	}
	f, err := root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode|0o200)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return root.Chtimes(h.Name, h.ModTime, h.ModTime)
}

func remove(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
