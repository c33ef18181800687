// Package supervisor runs services, each in a VM of its own.
//
// [StartVM] makes a machine from a [Spec] and returns when the guest's PID 1
// has answered and is set up; [ServiceVM.Run] then runs commands in it. When a
// guest does not come up, or goes away, the error says what became of it: see
// [GuestError].
package supervisor

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path"
	"slices"
	"time"

	"warder/devices/virtio/fs"
	"warder/devices/virtio/vsock"
	"warder/guestinit"
	"warder/guestinit/proto"
	"warder/vmm"
)

// Spec describes a service VM, as plain data.
type Spec struct {
	Name   string
	CPUs   int    // vmm's default when 0
	Memory uint64 // bytes; vmm's default when 0
	// CPUWeight and CPUMax are its part of the CPU time, see vmm.Config.
	CPUWeight int
	CPUMax    float64

	// BootCPUs is how many of the CPUs are on line at first; 0 for all. See
	// [ServiceVM.SetCPUs].
	BootCPUs int
	// MemoryMax is how many bytes of memory the VM can be given while it runs;
	// 0 for no more than Memory. See [vmm.Machine.SetMemory].
	MemoryMax uint64
	// Shortages are what the guest says at once that it is short of: proto.Memory,
	// proto.CPU. See [ServiceVM.Shortages]. For memory its commands are held up a moment,
	// for the host to act, before they have all of it.
	Shortages []string
	// Watchdog is what becomes of the VM when its PID 1 has not run for
	// WatchdogTimeout; "" for no watchdog. Default of the timeout: 30 s.
	Watchdog        vmm.WatchdogAction
	WatchdogTimeout time.Duration

	// Kernel is the path of a guest kernel. Empty: the installed one, with
	// its modules. Any other must have virtio-mmio and virtio-vsock built in.
	Kernel string
	// Initrd is the path of an initramfs whose files are the guest's user
	// land in place of warder's own. PID 1 is warder's all the same.
	Initrd string
	// Files are added to the guest's. With Bare they are all its user land, and one of
	// them is PID 1, as /init.
	Files []guestinit.File
	Bare  bool
	// Cmdline is added to the kernel's command line.
	Cmdline string

	// Root is what commands see in place of that; see [Root].
	Root Root

	Disks  []vmm.Disk // /dev/vda and on
	Shares []Share
	Nets   []Net      // eth0 and on
	Pmems  []vmm.Pmem // /dev/pmem0 and on
	Ports  []vmm.Port // their names are in the guest's /sys/class/virtio-ports

	// Secrets are the names of those that commands find in /run/secrets. Secret
	// answers what the guest asks for, these and others, see secret.Answer; nil
	// refuses all.
	Secrets []string
	Secret  func(name string) ([]byte, error)

	// VsockDir is a directory for the Unix sockets that stand for the guest's
	// vsock ports; "" for none.
	VsockDir string
	// VsockWatcher, unless it is nil, sees all that goes by vsock, what warder itself says
	// to the guest among it.
	VsockWatcher vsock.Watcher
	// ShareWatcher, unless it is nil, gives what sees the guest's accesses to a directory of
	// the host.
	ShareWatcher func(dir string) (fs.Watcher, error)

	// BootTimeout is how long the guest has to come up. Default: 2 minutes,
	// which is long enough where the host's KVM is itself emulated. Negative: as
	// long as it takes, for a guest that a debugger stops.
	BootTimeout time.Duration

	// BeforeStart, if set, is given the machine before its first instruction.
	BeforeStart func(*vmm.Machine) error

	// Console, if set, gets all that the guest's kernel says, which is then
	// also told to say more.
	Console io.Writer
	// Log receives what the host should know of the machine. Default:
	// slog.Default.
	Log *slog.Logger
}

const (
	defaultBootTimeout     = 2 * time.Minute
	defaultWatchdogTimeout = 30 * time.Second
)

// A Root is a file system that the commands of a VM see as all there is, but for
// shares and what the kernel keeps in /dev, /proc and /sys. The zero value is none.
type Root struct {
	// Path is a file with an EROFS file system, which VMs share in the host's page cache
	// where the guest's kernel can have a file as memory. Else it is a disk.
	Path string
	// FileSystem is that of a disk image in its place, as Linux calls it, and Offset and
	// Size are where that is in Path, in bytes. "" for the former.
	FileSystem   string
	Offset, Size int64
	// Disk is an image of an ext4 file system that keeps what commands write, "" for
	// the guest's memory, with which that is gone.
	Disk string
	// Args, Env, Dir and User hold for commands that give none. A command's
	// environment is added to Env.
	Args []string
	Env  []string
	Dir  string
	User string
}

// fill gives a command what it leaves open.
func (r Root) fill(c proto.Command) proto.Command {
	if len(c.Args) == 0 {
		c.Args = r.Args
	}
	c.Env = append(slices.Clone(r.Env), c.Env...)
	c.Dir, c.User = cmp.Or(c.Dir, r.Dir), cmp.Or(c.User, r.User)
	return c
}

// A Share is a directory of the host that the guest has mounted.
type Share struct {
	Host     string
	Guest    string // absolute
	ReadOnly bool
}

func (s Spec) validate() error {
	var errs []error
	if s.Root.Path != "" && s.Initrd != "" {
		errs = append(errs, errors.New("an image and an initramfs with another user land: give one of them"))
	}
	seen := make(map[string]bool)
	for _, sh := range s.Shares {
		switch {
		case !path.IsAbs(sh.Guest) || path.Clean(sh.Guest) == "/":
			errs = append(errs, fmt.Errorf("share of %s: %q in the guest: give an absolute path that is not /", sh.Host, sh.Guest))
		case seen[path.Clean(sh.Guest)]:
			errs = append(errs, fmt.Errorf("share of %s: there is one at %s already", sh.Host, sh.Guest))
		}
		seen[path.Clean(sh.Guest)] = true
	}
	for i, n := range s.Nets {
		errs = append(errs, n.validate(i))
	}
	return errors.Join(errs...)
}
