package kernelpkg

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"warder/boot"
	"warder/boot/deb"
)

// Install installs the guest kernel in the Debian package at path. One that is
// installed already is returned as it is, unless force is set or it was installed
// when guests wanted other modules.
func Install(ctx context.Context, path string, force bool) (*Package, error) {
	return forGuests.install(ctx, path, force)
}

// A purpose is what a kernel out of a package is installed for.
type purpose struct {
	flavour Flavour
	prefix  string          // of the directory's name, behind which the digest is
	wanted  func() []string // modules that are kept
}

var forGuests = purpose{flavour: Debian, wanted: func() []string { return slices.Concat(Guest, Lab) }}

func (u purpose) install(ctx context.Context, path string, force bool) (*Package, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	r := interruptible{ctx, f}
	d, err := deb.Parse(r, st.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p := &Package{Flavour: u.flavour, Arch: d.Control["Architecture"], Version: d.Control["Version"], Installed: time.Now().UTC()}
	if err := checkArch(p.Arch); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(r, 0, st.Size())); err != nil {
		return nil, err
	}
	p.Digest = hex.EncodeToString(sum.Sum(nil))
	dir, err := root()
	if err != nil {
		return nil, err
	}
	wanted := u.wanted()
	final := filepath.Join(dir, p.Arch, u.prefix+p.Digest)
	if !force {
		if old, err := load(final); err == nil && slices.Equal(old.Wanted, wanted) {
			return old, nil
		}
	}
	if err := place(final, func(tmp, ready string) error { return p.install(d, wanted, tmp, ready) }); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return load(final)
}

// interruptible stops reading when ctx ends.
type interruptible struct {
	ctx context.Context
	io.ReaderAt
}

func (r interruptible) ReadAt(p []byte, off int64) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.ReaderAt.ReadAt(p, off)
}

// place has fill make the directory ready, beside its place, and moves it there.
// What else is put into tmp is removed.
func place(final string, fill func(tmp, ready string) error) error {
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return err
	}
	removeStale(filepath.Dir(final))
	tmp, err := os.MkdirTemp(filepath.Dir(final), ".new-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	ready := filepath.Join(tmp, "ready")
	if err := os.Mkdir(ready, 0o755); err != nil {
		return err
	}
	if err := fill(tmp, ready); err != nil {
		return err
	}
	return replace(ready, final, filepath.Join(tmp, "old"))
}

func (p *Package) install(d *deb.Package, wanted []string, tmp, ready string) error {
	unpacked := filepath.Join(tmp, "unpacked")
	if err := d.Unpack(unpacked, wantedFile); err != nil {
		return err
	}
	if err := removeLinks(unpacked); err != nil {
		return err
	}
	if err := p.installKernel(unpacked, ready); err != nil {
		return err
	}
	var err error
	p.Wanted = wanted
	p.Modules, p.Builtin, err = installModules(unpacked, filepath.Join(ready, "modules"), wanted)
	if err != nil {
		return err
	}
	if err := p.installDeviceTrees(unpacked, ready); err != nil {
		return err
	}
	return p.save(ready)
}

// removeLinks removes what is no regular file: a package from anywhere could
// have us read, or keep, what its links lead to on this machine.
func removeLinks(dir string) error {
	return filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Type().IsRegular() {
			return err
		}
		return os.Remove(file)
	})
}

// removeStale removes what installations left that were killed. That it cannot
// be removed is no reason not to install.
func removeStale(dir string) {
	const age = time.Hour // far longer than one takes
	left, _ := filepath.Glob(filepath.Join(dir, ".new-*"))
	for _, d := range left {
		if st, err := os.Stat(d); err == nil && time.Since(st.ModTime()) > age {
			os.RemoveAll(d)
		}
	}
}

// replace moves the directory from to its place; what is there goes to old.
func replace(from, to, old string) error {
	if err := os.Rename(to, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(from, to)
}

// wantedFile picks what is looked at in a kernel package, by its name there.
func wantedFile(name string) bool {
	return strings.HasPrefix(name, "boot/vmlinuz-") || strings.HasPrefix(name, "boot/config-") ||
		strings.HasPrefix(strings.TrimPrefix(name, "usr/"), "lib/modules/") &&
			(isModule(name) || filepath.Base(name) == "modules.builtin") ||
		isDeviceTree(name)
}

// installKernel takes the kernel from the unpacked package.
func (p *Package) installKernel(unpacked, dir string) error {
	found, err := filepath.Glob(filepath.Join(unpacked, "boot/vmlinuz-*"))
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("%d kernels in the package (boot/vmlinuz-*), want one: give the package linux-image-RELEASE itself, no meta-package", len(found))
	}
	p.Release = strings.TrimPrefix(filepath.Base(found[0]), "vmlinuz-")
	p.VmlinuzPath = "vmlinuz"
	if err := os.Rename(found[0], filepath.Join(dir, p.VmlinuzPath)); err != nil {
		return err
	}
	config := filepath.Join(unpacked, "boot/config-"+p.Release)
	if err := os.Rename(config, filepath.Join(dir, "config")); err == nil {
		p.ConfigPath = "config"
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return p.unwrap(dir)
}

// unwrap expands the kernel, and opens it to see that it is one.
func (p *Package) unwrap(dir string) error {
	vmlinuz, err := os.Open(filepath.Join(dir, p.VmlinuzPath))
	if err != nil {
		return err
	}
	defer vmlinuz.Close()
	st, err := vmlinuz.Stat()
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(dir, "expanded"))
	if err != nil {
		return err
	}
	format, err := boot.Unwrap(out, vmlinuz, st.Size())
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("kernel %s: %w", p.Release, err)
	}
	p.KernelPath = "vmlinux"
	if format == boot.Image {
		p.KernelPath = "Image"
	}
	path := filepath.Join(dir, p.KernelPath)
	if err := os.Rename(out.Name(), path); err != nil {
		return err
	}
	k, err := boot.Open(path, "")
	if err != nil {
		return err
	}
	if k.Arch != p.Arch {
		return fmt.Errorf("kernel %s is for %s, its package for %s", p.Release, k.Arch, p.Arch)
	}
	return nil
}
