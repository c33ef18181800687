package trap

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/secmon/syscalls"
	"warder/vmm/pagetable"
)

var le = binary.LittleEndian

// Known says whether there is a system call of that name that can be trapped.
func Known(name string) bool { return syscalls.Known(name) }

// decoder makes the event of one hit after the other of a vCPU. What cannot be read
// is left out and marked in Call.Missing.
type decoder struct {
	h     *hooks
	armed *armed
	guest *introspect.Guest
	cpu   CPU
	site  *site
	abi   syscalls.ABI
	call  *syscalls.Call
	found bool // task is the one that makes the call
	task  introspect.Task
	open  bool // file is what the descriptor refers to
	file  introspect.File
	event event.Event
	// results are the clients who want to know the call's.
	results []wanted

	// What is used again for the next hit.
	view   pages
	kernel pagetable.Space // without the half of programs; nothing where there are no halves
	buf    []byte
	words  []uint64
}

// decoder is that of a vCPU, ready for its next hit.
func (a *armed) decoder(h *hooks, cpu CPU) *decoder {
	d := a.decoders[cpu.ID()]
	d.h, d.armed, d.guest, d.cpu = h, a, a.guest, cpu
	d.site, d.call, d.found, d.open, d.results = nil, nil, false, false, d.results[:0]
	return d
}

// wanted is a client who wants to know the result of a call, which it knows by
// this number.
type wanted struct {
	client *Traps
	seq    uint64
}

func (d *decoder) missing(what event.Missing) { d.event.Call.Missing |= what }

// decode reads what there is to say of the hit. It gives false when that has
// been said before, or concerns nobody.
func (d *decoder) decode() bool {
	d.event = event.Event{
		Time: time.Now().UnixNano(), Kind: event.Syscall,
		VCPU: int32(d.cpu.ID()),
		Call: event.Call{Name: d.site.call.Name, FD: -1, Offset: -1},
	}
	if !d.findTask() {
		d.missing(event.MissingProcess | event.MissingArgs | event.MissingPath | event.MissingFile)
		return true
	}
	if p, err := d.task.Process(); err == nil {
		d.event.Process = event.Process{PID: p.TGID, TID: p.PID, Parent: p.Parent, UID: p.UID, EUID: p.EUID, Name: p.Comm}
		if p.UID == 0 {
			d.event.Process.User = rootName
		}
	} else {
		d.missing(event.MissingProcess)
	}
	if d.site.check {
		return d.program()
	}
	if !d.arguments() {
		d.missing(event.MissingArgs | event.MissingPath | event.MissingFile)
		return true
	}
	d.parameters()
	if f := special[d.call.Name]; f != nil {
		f(d)
	}
	if !slices.ContainsFunc(d.site.clients, func(t *Traps) bool { return d.concerns(&t.cfg) }) {
		return false
	}
	if d.armed.wants.process {
		d.process()
	}
	if isExec(d.call.Name) {
		d.h.programs.remember(d.task.Addr(), &d.event)
	}
	return true
}

// rootName is who a process with user id 0, outside of all user namespaces that the
// guest may have, runs for. Other names are in files of the guest's.
const rootName = "root"

func isExec(name string) bool { return name == "execve" || name == "execveat" }

func (d *decoder) findTask() bool {
	space, err := d.cpu.KernelSpace(false)
	if err != nil {
		return false
	}
	base, err := d.cpu.KernelBase()
	if err != nil {
		return false
	}
	d.assume(space)
	d.view.begin(d.cpu, space)
	d.found = d.task.Next(d.guest, &d.view, base) == nil
	return d.found
}

// narrow are the ABIs of the 32-bit programs of an architecture.
var narrow = map[syscalls.ABI]syscalls.ABI{syscalls.AMD64: syscalls.I386, syscalls.ARM64: syscalls.ARM}

// arguments reads the call's number and the words of its arguments.
func (d *decoder) arguments() bool {
	c := &d.event.Call
	regs := d.cpu.Arg(0)
	d.abi = d.site.abi
	if narrow, ok := narrow[d.abi]; ok {
		// 32-bit programs come in by the same handlers: on arm64 by all, on amd64
		// by those without parameters.
		is, err := d.task.Is32Bit(regs)
		if err != nil {
			return false
		}
		if is {
			d.abi = narrow
		}
	}
	from := introspect.Native
	if d.abi.Compat() {
		from = introspect.Compat
	}
	var err error
	if c.Number, c.Args, err = d.task.SystemCall(regs, from); err != nil {
		return false
	}
	d.call = d.site.call
	// Some handlers serve calls of several names.
	if by := syscalls.ByNumber(d.abi, int(c.Number)); by != nil && slices.Contains(by.Handlers, d.site.handler) {
		d.call = by
	}
	c.Name, c.ABI = d.call.Name, d.abi.String()
	return true
}

// value is parameter n of the call.
func (d *decoder) value(n int) uint64 { return d.call.Value(d.abi, n, &d.event.Call.Args) }

// flags is the parameter with a set of flags, 0 where the call has none.
func (d *decoder) flags(set string) uint64 {
	if i := d.call.Flags(set); i >= 0 {
		return d.value(i)
	}
	return 0
}

// parameters reads what the call's parameters mean, each by its kind.
func (d *decoder) parameters() {
	c := &d.event.Call
	c.Flags = uint32(d.flags("open"))
	dir, dirAt, hasPath := introspect.CurrentDir, -1, false
	for i, p := range d.call.Params {
		switch p.Kind {
		case syscalls.DirFD:
			dir, dirAt = int32(d.value(i)), i
			if c.FD == -1 {
				c.FD = dir
			}
		case syscalls.Path:
			// Only the first of two is followed. That of a dirfd is behind it.
			if hasPath {
				d.string(i)
				continue
			}
			hasPath = true
			if dirAt != i-1 {
				dir = introspect.CurrentDir
			}
			d.path(dir, i)
		case syscalls.FD:
			if c.FD == -1 && !hasPath {
				c.FD = int32(d.value(i))
				d.descriptor()
			}
		case syscalls.OpenHow:
			if d.data(i, p); c.Read&(1<<i) != 0 && len(c.Data[i]) >= 8 {
				c.Flags = uint32(le.Uint64([]byte(c.Data[i][:8])))
			}
		case syscalls.Argv:
			if d.armed.wants.process || d.armed.wants.arguments {
				d.strings(i)
			}
		case syscalls.SockAddr:
			d.data(i, p)
		default:
			if d.armed.wants.arguments && p.Kind.Points() && !p.Kind.After() {
				d.data(i, p)
			}
		}
	}
}

// string reads the string in parameter n.
func (d *decoder) string(n int) bool { return d.stringAt(n, d.value(n)) }

func (d *decoder) stringAt(n int, at uint64) bool {
	c := &d.event.Call
	s, err := d.task.String(at)
	if err != nil {
		return false
	}
	c.Data[n], c.Read = s, c.Read|1<<n
	return true
}

// Flags of the calls that take a path (include/uapi/linux/fcntl.h, mount.h).
const (
	atSymlinkNoFollow = 0x100
	atSymlinkFollow   = 0x400
	atEmptyPath       = 0x1000
	umountNoFollow    = 8
	openCreate        = 0x40
	openExclusive     = 0x80
)

// keepsLink are the calls that act on a symbolic link itself.
var keepsLink = map[string]bool{
	"lstat": true, "oldlstat": true, "lstat64": true, "lchown": true, "lchown32": true, "readlink": true, "readlinkat": true,
	"unlink": true, "unlinkat": true, "rmdir": true, "mkdir": true, "mkdirat": true, "mknod": true, "mknodat": true,
	"symlink": true, "symlinkat": true, "link": true, "rename": true, "renameat": true, "renameat2": true,
	"lgetxattr": true, "lsetxattr": true, "llistxattr": true, "lremovexattr": true,
}

// follows says whether the call follows a symbolic link at the end of its path.
func (d *decoder) follows() bool {
	c := &d.event.Call
	switch name := d.call.Name; {
	case keepsLink[name]:
		return false
	case name == "linkat" || name == "name_to_handle_at":
		return d.flags("at")&atSymlinkFollow != 0
	case name == "umount2":
		return d.flags("umount")&umountNoFollow == 0
	}
	noFollow := uint64(0x20000) // O_NOFOLLOW
	if d.guest.Arch() == "arm64" {
		noFollow = 0x8000
	}
	flags := uint64(c.Flags)
	return d.flags("at")&atSymlinkNoFollow == 0 && flags&noFollow == 0 && flags&(openCreate|openExclusive) != openCreate|openExclusive
}

// path reads the path in parameter n and finds what it means.
func (d *decoder) path(dir int32, n int) {
	c := &d.event.Call
	if d.value(n) == 0 {
		return // as some calls allow, and others will say
	}
	if !d.string(n) {
		d.missing(event.MissingPath | event.MissingFile)
		return
	}
	c.Path = c.Data[n]
	if c.Path == "" && dir != introspect.CurrentDir && d.flags("at")&atEmptyPath != 0 {
		d.descriptor()
		return
	}
	loc, err := d.task.Resolve(dir, c.Path, d.shares(), d.follows())
	switch {
	case err == nil:
		if c.File = d.named(loc); isExec(d.call.Name) {
			d.content(loc)
		}
	case errors.Is(err, unix.ENOENT):
		// An empty path names nothing, and the call will say so.
	default:
		d.missing(event.MissingFile)
	}
}

// shares is what package introspect may ask, nil when there is none.
func (d *decoder) shares() introspect.Shares {
	if d.armed.shares == nil {
		return nil
	}
	return d.armed.shares
}

// named names a file as events do: on a share by the host's directory.
func (d *decoder) named(loc introspect.Location) event.File {
	f := event.File{Path: loc.Path, FS: loc.FS, Inner: loc.Inner, Inode: loc.Inode, Absent: !loc.Exists}
	if d.armed.shares == nil || loc.FS != introspect.ShareFS {
		return f
	}
	if sh := d.armed.shares.byTag[loc.Source]; sh != nil {
		f.Share, f.Device, f.Size = sh.dir, sh.device, -1
		if e, err := d.armed.shares.Lstat(loc.Source, loc.Inner); err == nil && e.Inode == loc.Inode {
			f.Size = e.Size
		}
	}
	return f
}

// content reads what a program on a share begins with.
func (d *decoder) content(loc introspect.Location) {
	if c := &d.event.Call; c.File.Share != "" && loc.Exists {
		c.Payload = d.armed.shares.head(loc.Source, loc.Inner, loc.Inode, d.armed.wants.payload)
	}
}

// descriptor finds what the call's descriptor refers to.
func (d *decoder) descriptor() {
	c := &d.event.Call
	var err error
	d.file, err = d.task.File(c.FD)
	switch {
	case err == nil:
		d.open = true
		c.File, c.Flags = d.named(d.file.Location), d.file.Flags
		if isExec(d.call.Name) {
			d.content(d.file.Location)
		}
	case errors.Is(err, introspect.ErrNotOpen):
		// The call will say so.
	default:
		d.missing(event.MissingFile)
	}
}
