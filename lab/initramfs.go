package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"
	"golang.org/x/sys/unix"

	"warder/boot/expand"
	"warder/lab/outer"
)

// A tree is what goes into the outer machine's file system, by path without
// the leading slash. Later entries replace earlier ones.
type tree map[string]source

// A source is one entry: exactly one of the three.
type source struct {
	dir  bool
	link string // a symbolic link's target
	open func() (content, error)
	mode fs.FileMode
}

// A content is a file's bytes.
type content interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

type openFile struct {
	*os.File
	size int64
}

func (f openFile) Size() int64 { return f.size }

type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }

// buildInitramfs writes the initramfs of cfg to an anonymous file: same input,
// same bytes. It is not compressed, as unpacking costs an emulated CPU more
// than copying.
func buildInitramfs(cfg Config) (*os.File, error) {
	t, err := collect(cfg)
	if err != nil {
		return nil, fmt.Errorf("lab: initramfs: %w", err)
	}
	fd, err := unix.MemfdCreate("lab-initramfs", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("lab: initramfs: %w", err)
	}
	f := os.NewFile(uintptr(fd), "lab-initramfs")
	if err := t.write(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("lab: initramfs: %w", err)
	}
	return f, nil
}

func collect(cfg Config) (tree, error) {
	t := tree{}
	for _, dir := range []string{"dev", "proc", "sys", "tmp", "run", "root", "etc"} {
		t[dir] = source{dir: true}
	}
	for _, dir := range merged {
		t["usr/"+dir] = source{dir: true}
		t[dir] = source{link: "usr/" + dir}
	}
	t["usr"] = source{dir: true}
	t["etc/passwd"] = text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
	t["etc/group"] = text("root:x:0:\nnogroup:x:65534:\n")
	t["etc/hosts"] = text("127.0.0.1 localhost lab\n::1 localhost\n")
	for _, root := range cfg.roots {
		if err := t.addDir(root, ""); err != nil {
			return nil, err
		}
	}
	for i, m := range cfg.Modules {
		name, _, _ := strings.Cut(filepath.Base(m), ".ko")
		s, err := moduleFile(m)
		if err != nil {
			return nil, err
		}
		t.add(fmt.Sprintf("%s/%03d-%s.ko", outer.ModulesDir, i, name), s)
	}
	for _, f := range cfg.Files {
		if err := t.addFile(f); err != nil {
			return nil, err
		}
	}
	if cfg.Init == "" {
		return nil, errors.New("no /init for the outer machine")
	}
	init, err := hostFile(cfg.Init)
	if err != nil {
		return nil, err
	}
	t.add("/init", init)
	if cfg.warder {
		t.add("/bin/warder", source{link: "/init"})
	}
	return t, nil
}

func (t tree) addFile(f File) error {
	if !path.IsAbs(f.Guest) {
		return fmt.Errorf("%s: the path in the outer machine, %q, is not absolute", f.Host, f.Guest)
	}
	info, err := os.Stat(f.Host)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return t.addDir(f.Host, f.Guest)
	}
	s, err := hostFile(f.Host)
	if err != nil {
		return err
	}
	t.add(f.Guest, s)
	return nil
}

// addDir adds what the directory host holds below the path guest.
func (t tree) addDir(host, guest string) error {
	return filepath.WalkDir(host, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(host, name)
		if err != nil {
			return err
		}
		to := path.Join("/", guest, filepath.ToSlash(rel))
		switch {
		case d.IsDir():
			if to != "/" {
				t.add(to, source{dir: true})
			}
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			t.add(to, source{link: target})
		case d.Type().IsRegular():
			s, err := hostFile(name)
			if err != nil {
				return err
			}
			t.add(to, s)
		}
		return nil
	})
}

// merged are the directories that are links into /usr, as on any Debian: some
// packages ship their files below one name, some below the other.
var merged = []string{"bin", "sbin", "lib", "lib64"}

// add adds an entry and the directories above it.
func (t tree) add(name string, s source) {
	name = strings.TrimPrefix(path.Clean(name), "/")
	if top, _, _ := strings.Cut(name, "/"); slices.Contains(merged, top) {
		name = "usr/" + name
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if _, ok := t[dir]; !ok {
			t[dir] = source{dir: true}
		}
	}
	t[name] = s
}

func (t tree) write(w io.Writer) error {
	b := bufio.NewWriterSize(w, 1<<20)
	out := cpio.Newc.Writer(b)
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names) // a directory before what it holds
	for i, name := range names {
		if err := t[name].write(out, name, uint64(i+1)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := cpio.WriteTrailer(out); err != nil {
		return err
	}
	return b.Flush()
}

func (s source) write(out cpio.RecordWriter, name string, inode uint64) error {
	info := cpio.Info{Ino: inode, Name: name, NLink: 1}
	switch {
	case s.dir:
		info.Mode, info.NLink = unix.S_IFDIR|0o755, 2
		if name == "tmp" {
			info.Mode |= unix.S_ISVTX | 0o777
		}
		return out.WriteRecord(cpio.Record{Info: info})
	case s.link != "":
		info.Mode, info.FileSize = unix.S_IFLNK|0o777, uint64(len(s.link))
		return out.WriteRecord(cpio.Record{Info: info, ReaderAt: strings.NewReader(s.link)})
	}
	c, err := s.open()
	if err != nil {
		return err
	}
	defer c.Close()
	info.Mode, info.FileSize = unix.S_IFREG|uint64(s.mode.Perm()), uint64(c.Size())
	return out.WriteRecord(cpio.Record{Info: info, ReaderAt: c})
}

func text(s string) source {
	return source{mode: 0o644, open: func() (content, error) {
		return inMemory{bytes.NewReader([]byte(s))}, nil
	}}
}

func hostFile(name string) (source, error) {
	info, err := os.Stat(name)
	if err != nil {
		return source{}, err
	}
	if !info.Mode().IsRegular() {
		return source{}, fmt.Errorf("%s is not a regular file", name)
	}
	return source{mode: info.Mode().Perm(), open: func() (content, error) {
		f, err := os.Open(name)
		return openFile{f, info.Size()}, err
	}}, nil
}

// maxModule bounds a kernel module, expanded, in bytes.
const maxModule = 256 << 20

// moduleFile is a kernel module, expanded on the way.
func moduleFile(name string) (source, error) {
	s, err := hostFile(name)
	if err != nil {
		return s, err
	}
	s.open = func() (content, error) {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		m := expand.Detect(b)
		if m == "" {
			return inMemory{bytes.NewReader(b)}, nil
		}
		var module bytes.Buffer
		if _, err := expand.Copy(&module, m, bytes.NewReader(b), maxModule); err != nil {
			return nil, err
		}
		return inMemory{bytes.NewReader(module.Bytes())}, nil
	}
	return s, nil
}
