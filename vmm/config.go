package vmm

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"

	"warder/devices/virtio/blk"
	"warder/devices/virtio/fs"
	"warder/devices/virtio/vsock"
)

// Config is a machine, as plain data. The zero value of a field is its default
// where one is given.
type Config struct {
	// Name stands in logs, reports and process listings. Default: "vm".
	Name string
	// CPUs is the number of vCPUs. Default: 1. At most the host's, and maxCPUs.
	CPUs int
	// BootCPUs is how many of them a Linux guest takes on line when it boots; the
	// others are for when it is told to. Default: all.
	BootCPUs int
	// CPUWeight is how much CPU time the vCPUs get together when there is not
	// enough for all, in proportion to other machines with a weight: 1 to 10000,
	// where 100 is usual. Their threads then run in a cgroup of their own, and New
	// fails with a *cgroup.UnavailableError where that cannot be. Default: 0, each
	// thread counts as one of the process's.
	CPUWeight int
	// CPUMax is how much CPU time the vCPUs and the workers of the devices get
	// together at most, in CPUs, as in 0.5. Default: 0, no bound.
	CPUMax float64
	// Memory is the guest's RAM in bytes, in whole MiB. Default: 256 MiB.
	// At least 32 MiB.
	Memory uint64
	// MemoryMax is how much RAM the guest can be given while it runs, in bytes:
	// at least Memory, which is the default. See [Machine.SetMemory].
	MemoryMax uint64
	// Kernel is the path of a bzImage, vmlinux or arm64 Image.
	Kernel string
	// Initrd is the initial RAM disk: the pieces one after the other, each
	// padded to 4 bytes, as Linux reads several archives from one initrd.
	Initrd [][]byte
	// Cmdline is the kernel's command line.
	Cmdline string

	Disks  []Disk
	Pmems  []Pmem
	Shares []Share
	Nets   []Net

	// VsockCID is the guest's address on vsock, 3 or above; 0 for no vsock.
	VsockCID uint32
	// VsockDir is a directory for the Unix sockets that stand for vsock
	// ports; "" for none.
	VsockDir string
	// VsockWatcher sees all packets of vsock; nil for nobody.
	VsockWatcher vsock.Watcher

	// Serial is the first serial port, where the kernel's own messages go.
	Serial Stream
	// Console is a virtio console, hvc0 in the guest. It is there if Out is.
	Console Stream
	// Ports are streams by name between programs in the guest and on the host.
	Ports []Port

	// Watchdog is what becomes of the machine when its guest has started the
	// watchdog and did not set it back in time. Default: there is none.
	Watchdog WatchdogAction

	// DevKVM is the path of the KVM device. Default: /dev/kvm.
	DevKVM string
	// Log receives what the host should know of the machine. Default:
	// slog.Default.
	Log *slog.Logger
}

// A Disk is a raw image file or block device, /dev/vda and on in the guest.
type Disk struct {
	Path     string
	ReadOnly bool
	Serial   string // at most 20 bytes; the guest sees it as the disk's id
	// Offset and Size, in bytes, are the part of the file that is the disk, which is then
	// only read. Size is 0 for all of it.
	Offset, Size int64
}

// A Share is a directory of the host that the guest mounts by its tag:
// mount -t virtiofs TAG DIR.
type Share struct {
	Tag      string // at most 36 bytes
	Dir      string
	ReadOnly bool
	// Watcher sees what the guest does to files there; nil for nobody.
	Watcher fs.Watcher
}

// A Stream is the host's end of a character device. Either side may be nil.
type Stream struct {
	In  io.Reader
	Out io.Writer
}

const (
	minMemory = 32 * mib
	// DefaultMemory is the default of Config.Memory.
	DefaultMemory = 256 * mib
	// maxMemory keeps guest-physical addresses inside the 40 bits that every
	// arm64 host with KVM has.
	maxMemory = 512 * gib

	maxSerial = 20 // VIRTIO_BLK_ID_BYTES
	maxTag    = 36 // struct virtio_fs_config.tag
)

// withDefaults returns c with the defaults filled in, or all that is wrong
// with it.
func (c Config) withDefaults() (Config, error) {
	if c.Name == "" {
		c.Name = "vm"
	}
	if c.CPUs == 0 {
		c.CPUs = 1
	}
	if c.Memory == 0 {
		c.Memory = DefaultMemory
	}
	if c.MemoryMax == 0 {
		c.MemoryMax = c.Memory
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	c.withNetDefaults()
	return c, c.validate()
}

func (c Config) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	switch n := runtime.NumCPU(); {
	case c.CPUs < 1 || c.CPUs > n:
		bad("%d CPUs: give 1 to %d, what this host has", c.CPUs, n)
	case c.CPUs > maxCPUs:
		bad("%d CPUs: give 1 to %d, what this machine has room for", c.CPUs, maxCPUs)
	}
	errs = append(errs, c.validateCPULimits()...)
	switch {
	case c.Memory < minMemory || c.Memory > maxMemory:
		bad("%d MiB of memory: give %d MiB to %d GiB", c.Memory/mib, minMemory/mib, maxMemory/gib)
	case c.Memory%mib != 0:
		bad("%d bytes of memory: give whole MiB", c.Memory)
	}
	errs = append(errs, c.checkBootCPUs(), c.checkHotplug(), c.Watchdog.check())
	if c.Kernel == "" {
		bad("no kernel: give the path of a bzImage, vmlinux or arm64 Image")
	}
	for _, d := range c.Disks {
		if d.Path == "" {
			bad("a disk without a path")
		}
		if d.Size != 0 && (!d.ReadOnly || d.Offset < 0 || d.Size < 0 || d.Offset%blk.SectorSize != 0 || d.Size%blk.SectorSize != 0) {
			bad("disk %s: %d bytes at %d of it: a part of a file is whole sectors, and only read", d.Path, d.Size, d.Offset)
		}
		if len(d.Serial) > maxSerial {
			bad("disk serial %q: at most %d bytes", d.Serial, maxSerial)
		}
	}
	tags := map[string]bool{}
	for _, s := range c.Shares {
		if s.Tag == "" || len(s.Tag) > maxTag {
			bad("share %q: a tag has 1 to %d bytes", s.Tag, maxTag)
		}
		if tags[s.Tag] {
			bad("share %q: the tag is taken", s.Tag)
		}
		tags[s.Tag] = true
	}
	if c.VsockCID != 0 && (c.VsockCID < 3 || c.VsockCID == 1<<32-1) {
		bad("vsock CID %d: 0 to 2 and 2^32-1 are reserved, give 3 or above", c.VsockCID)
	}
	if c.VsockDir != "" && c.VsockCID == 0 {
		bad("a directory for vsock sockets, but no vsock CID")
	}
	errs = append(errs, c.validateNets()...)
	errs = append(errs, c.validatePorts()...)
	errs = append(errs, c.validatePmems()...)
	if n := c.virtioCount(); n > maxVirtioDevices {
		bad("%d devices: this machine has room for %d", n, maxVirtioDevices)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("vmm: configuration of %q: %w", c.Name, err)
	}
	return nil
}

// virtioCount is how many virtio devices c asks for: the disks, files as memory, the shares, the
// network interfaces, the entropy device and the balloon that every machine has,
// vsock, the console, all ports together, memory that can be plugged.
func (c Config) virtioCount() int {
	n := len(c.Disks) + len(c.Shares) + len(c.Nets) + len(c.Pmems) + 2
	if c.VsockCID != 0 {
		n++
	}
	if c.Console.Out != nil {
		n++
	}
	if c.MemoryMax > c.Memory {
		n++
	}
	if len(c.Ports) > 0 {
		n++
	}
	return n
}
