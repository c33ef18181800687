// Package kernelpkg keeps the guest kernels of this machine: a kernel, its
// configuration and the modules guests need, by architecture.
//
// They are in warder's cache directory, each in a directory that is named after
// the digest of what it came from, a Debian package or the build of a tuned
// kernel, and that appears when it is whole:
//
//	kernels/ARCH/DIGEST/vmlinuz            as packaged
//	kernels/ARCH/DIGEST/vmlinux or Image   without compression
//	kernels/ARCH/DIGEST/config
//	kernels/ARCH/DIGEST/modules/NAME.ko    without compression
//	kernels/ARCH/DIGEST/kernel.json        a Package, paths relative to the directory
//	kernels/ARCH/host-DIGEST/              the same of a kernel for machines, not guests
package kernelpkg

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"warder/boot"
)

// A Package is an installed guest kernel.
type Package struct {
	Flavour     Flavour   `json:"flavour"`
	Arch        string    `json:"arch"`             // "amd64" or "arm64"
	Release     string    `json:"release"`          // uname -r
	Version     string    `json:"version"`          // of the Debian package with the kernel, or with its source
	Recipe      string    `json:"recipe,omitempty"` // of a tuned kernel, see Built
	Digest      string    `json:"digest"`           // SHA-256 of the Debian package, or of the kernel that was built
	Installed   time.Time `json:"installed"`        // on this machine
	Dir         string    `json:"dir"`
	KernelPath  string    `json:"kernel"`  // expanded: ELF vmlinux or arm64 Image; for boot.Open
	VmlinuzPath string    `json:"vmlinuz"` // as packaged; for other boot loaders
	ConfigPath  string    `json:"config"`
	Modules     []Module  `json:"modules"`                // all that were kept, in load order
	Builtin     []string  `json:"builtin"`                // wanted names that are part of the kernel
	Wanted      []string  `json:"wanted"`                 // names that were looked for
	DeviceTrees string    `json:"device_trees,omitempty"` // directory of them, for boards whose firmware has none
}

// A Module is a kernel module on disk, not compressed.
type Module struct {
	Name string   `json:"name"` // as lsmod shows it: virtio_mmio
	Path string   `json:"path"`
	Deps []string `json:"deps,omitempty"` // names of modules that have to be loaded before
}

// Guest are the modules that a guest of warder's may want; Lab are those that
// the outer machine of the lab needs to run VMs and others' VMMs.
var (
	Guest = []string{
		"virtio_mmio", "virtio_blk", "vmw_vsock_virtio_transport", "virtio_rng", "virtio_net", "virtio_balloon",
		"virtio_mem", "wdat_wdt", "sp805_wdt", "virtio_pmem", "nd_pmem", "evdev", "button", "overlay", "erofs",
	}
	Lab = []string{"irqbypass", "kvm", "kvm_amd", "kvm_intel", "tun", "bridge", "vhost_net", "vhost_vsock"}
)

const indexName = "kernel.json"

func checkArch(arch string) error {
	if arch != "amd64" && arch != "arm64" {
		return fmt.Errorf("no guest kernels for architecture %q: has to be amd64 or arm64", arch)
	}
	return nil
}

// List returns all guest kernels, those installed last first.
func List() ([]*Package, error) { return list("*") }

func root() (string, error) {
	dir, err := boot.CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "kernels"), nil
}

func list(arch string) ([]*Package, error) {
	dir, err := root()
	if err != nil {
		return nil, err
	}
	indexes, err := filepath.Glob(filepath.Join(dir, arch, "*", indexName))
	if err != nil {
		return nil, err
	}
	var all []*Package
	for _, index := range indexes {
		p, err := load(filepath.Dir(index))
		if errors.Is(err, fs.ErrNotExist) {
			continue // replaced at this moment
		}
		if err != nil {
			return nil, fmt.Errorf("guest kernel: %w; remove %s and pull it again", err, filepath.Dir(index))
		}
		all = append(all, p)
	}
	slices.SortStableFunc(all, func(a, b *Package) int {
		return cmp.Or(b.Installed.Compare(a.Installed), cmp.Compare(a.Dir, b.Dir))
	})
	return all, nil
}

// Open returns the guest kernel in dir, a directory that [List] tells of, in
// whichever cache it is.
func Open(dir string) (*Package, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	p, err := load(dir)
	if err != nil {
		return nil, fmt.Errorf("no guest kernel in %s: %w", dir, err)
	}
	return p, nil
}

// load reads the package in dir.
func load(dir string) (*Package, error) {
	index := filepath.Join(dir, indexName)
	text, err := os.ReadFile(index)
	if err != nil {
		return nil, err
	}
	p := new(Package)
	if err := json.Unmarshal(text, p); err != nil {
		return nil, fmt.Errorf("%s: %w", index, err)
	}
	p.Dir = dir
	p.Flavour = cmp.Or(p.Flavour, Debian) // indexes were written before there were others
	p.eachPath(func(path *string) { *path = filepath.Join(dir, *path) })
	for _, path := range []string{p.KernelPath, p.VmlinuzPath} {
		if _, err := os.Stat(path); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// save writes the index of the package in dir, to which its paths are relative.
func (p *Package) save(dir string) error {
	text, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, indexName), append(text, '\n'), 0o644)
}

func (p *Package) eachPath(f func(path *string)) {
	for _, path := range []*string{&p.KernelPath, &p.VmlinuzPath, &p.ConfigPath, &p.DeviceTrees} {
		if *path != "" {
			f(path)
		}
	}
	for i := range p.Modules {
		f(&p.Modules[i].Path)
	}
}

// Select returns the modules named and what they depend on, in load order. Names
// that are built into the kernel, or that do not exist for it, are passed over.
func (p *Package) Select(names ...string) []Module {
	byName := make(map[string]Module, len(p.Modules))
	for _, m := range p.Modules {
		byName[m.Name] = m
	}
	var selected []Module
	for _, name := range inLoadOrder(names, func(name string) ([]string, bool) {
		m, ok := byName[name]
		return m.Deps, ok
	}) {
		selected = append(selected, byName[name])
	}
	return selected
}
