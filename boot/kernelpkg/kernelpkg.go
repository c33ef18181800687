// Package kernelpkg keeps the guest kernels of this machine: a kernel, its
// configuration and the modules guests need, by architecture.
package kernelpkg

import (
	"errors"
	"time"
)

// A Package is an installed guest kernel.
type Package struct {
	Arch        string    `json:"arch"`    // "amd64" or "arm64"
	Release     string    `json:"release"` // uname -r
	Version     string    `json:"version"` // of the Debian package
	Digest      string    `json:"digest"`  // SHA-256 of the Debian package
	Installed   time.Time `json:"installed"`
	Dir         string    `json:"dir"`
	KernelPath  string    `json:"kernel"`  // expanded: ELF vmlinux or arm64 Image; feed it to boot.Open
	VmlinuzPath string    `json:"vmlinuz"` // as packaged; feed it to QEMU
	ConfigPath  string    `json:"config"`
	Modules     []Module  `json:"modules"` // all that were kept, in load order
	Builtin     []string  `json:"builtin"` // names asked for that are part of the kernel
}

// A Module is a kernel module on disk, not compressed.
type Module struct {
	Name string   `json:"name"` // as lsmod shows it: virtio_mmio
	Path string   `json:"path"`
	Deps []string `json:"deps,omitempty"` // names of modules that have to be loaded before
}

// Find returns the newest guest kernel for arch.
func Find(arch string) (*Package, error) { return nil, errors.ErrUnsupported }

// List returns all guest kernels, newest first.
func List() ([]*Package, error) { return nil, errors.ErrUnsupported }

// Guest are the modules a guest of warder's may want; Lab are those the lab's
// outer machine needs to run VMs.
var (
	Guest = []string{"virtio_mmio", "virtio_blk", "vmw_vsock_virtio_transport", "virtio_rng", "virtio_net", "virtio_balloon", "evdev", "button", "overlay", "erofs"}
	Lab   = []string{"kvm", "kvm_amd", "kvm_intel", "irqbypass", "tun"}
)

// Select returns the modules named and what they depend on, in load order. Names
// that are built into the kernel, or that do not exist for it, are passed over.
func (p *Package) Select(names ...string) []Module { return nil }
