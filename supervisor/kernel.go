package supervisor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"warder/boot"
	"warder/boot/kernelpkg"
)

// What the file system of an image needs of a guest's kernel: file systems and drivers,
// by the names that they have as modules.
const (
	erofs      = "erofs"
	ext4       = "ext4"
	overlayfs  = "overlay"
	diskDriver = "virtio_blk"
)

// pmemDrivers are for files as memory.
var pmemDrivers = []string{"virtio_pmem", "nd_pmem"}

// symbols are what these are called in a kernel's configuration.
var symbols = map[string]string{
	erofs: "CONFIG_EROFS_FS", ext4: "CONFIG_EXT4_FS", overlayfs: "CONFIG_OVERLAY_FS", diskDriver: "CONFIG_VIRTIO_BLK",
	"virtio_pmem": "CONFIG_VIRTIO_PMEM", "nd_pmem": "CONFIG_BLK_DEV_PMEM",
}

// A kernel is what a guest boots.
type kernel struct {
	path string
	pkg  *kernelpkg.Package // nil for a file that is of none
}

// asDisk tells whether a guest with this kernel has the file system as a disk, since it
// is one or since the kernel has no drivers for files as memory. The error is what the
// kernel lacks in either case.
func (r Root) asDisk(k kernel) (disk bool, err error) {
	has := func(name string) bool {
		ok, e := k.has(name)
		err = errors.Join(err, e)
		return ok
	}
	needs := []string{erofs, overlayfs}
	if disk = r.FileSystem != ""; disk {
		needs[0] = r.FileSystem
	} else {
		disk = slices.ContainsFunc(pmemDrivers, func(name string) bool { return !has(name) })
	}
	if disk || r.Disk != "" {
		needs = append(needs, diskDriver)
	}
	if r.Disk != "" {
		needs = append(needs, ext4)
	}
	for _, name := range needs {
		if there := has(name); err == nil && !there {
			err = fmt.Errorf("the guest kernel %s has no %s, which an image needs here: take another, warder kernel pull gets one", k.path, name)
		}
	}
	return disk, err
}

// has tells whether the guest can load a module of that name, or has it in its kernel.
func (k kernel) has(name string) (bool, error) {
	if k.pkg == nil {
		builtin, err := builtinOf(k.path)
		return builtin[name], err
	}
	if slices.ContainsFunc(k.pkg.Modules, func(m kernelpkg.Module) bool { return m.Name == name }) {
		return true, nil
	}
	config, err := os.ReadFile(k.pkg.ConfigPath)
	if err != nil {
		return false, fmt.Errorf("configuration of the guest kernel: %w", err)
	}
	return bytes.Contains(config, []byte("\n"+symbols[name]+"=y\n")), nil
}

// version tells one state of a file from another.
type version struct {
	path     string
	modified int64
	size     int64
}

// looked has what kernels have built in, as builtinOf found it: map[string]bool by version.
var looked sync.Map

// builtinOf tells which of what images need is part of a kernel of which nothing is known
// but its file.
func builtinOf(path string) (map[string]bool, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	v := version{path, st.ModTime().UnixNano(), st.Size()}
	if m, ok := looked.Load(v); ok {
		return m.(map[string]bool), nil
	}
	cache, err := boot.CacheDir()
	if err != nil {
		return nil, err
	}
	k, err := boot.Open(path, filepath.Join(cache, "vmlinux"))
	if err != nil {
		return nil, err
	}
	m := make(map[string]bool)
	for name := range symbols {
		m[name] = k.HasBuiltin(name)
	}
	looked.Store(v, m)
	return m, nil
}

// findKernel gives the installed kernel that is meant, nil for a file that is
// not one of them.
func findKernel(file string) (*kernelpkg.Package, error) {
	if file == "" {
		return kernelpkg.Default(runtime.GOARCH)
	}
	all, err := kernelpkg.List()
	if err != nil {
		return nil, nil // the file can do without the cache
	}
	want, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	for _, p := range all {
		for _, f := range []string{p.KernelPath, p.VmlinuzPath} {
			if st, err := os.Stat(f); err == nil && os.SameFile(st, want) {
				return p, nil
			}
		}
	}
	return nil, nil
}
