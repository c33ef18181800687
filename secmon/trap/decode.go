package trap

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/introspect"
)

var le = binary.LittleEndian

// call is a system call that can be trapped and how its arguments are read.
type call struct {
	name    string
	read    func(*decoder)
	program bool // it executes a file, see programCheck
}

var known = []call{
	{"execve", func(d *decoder) { d.path(introspect.CurrentDir, 0, true) }, true},
	{"execveat", (*decoder).execveat, true},
	{"openat", (*decoder).openat, false},
	{"write", (*decoder).write, false},
	{"pwrite64", (*decoder).pwrite, false},
	{"writev", (*decoder).writev, false},
	{"pwritev", (*decoder).pwritev, false},
	{"pwritev2", (*decoder).pwritev, false},
}

// Known says whether a system call can be trapped: whether its arguments are
// understood.
func Known(name string) bool {
	return slices.ContainsFunc(known, func(c call) bool { return c.name == name })
}

// decoder makes the event of one hit. What cannot be read is left out and
// marked in Call.Missing.
type decoder struct {
	t     *Traps
	guest *introspect.Guest
	cpu   CPU
	site  *site
	task  *introspect.Task
	event event.Event
}

func (d *decoder) missing(what event.Missing) { d.event.Call.Missing |= what }

// decode reads what there is to say of the hit. It gives false when that has
// been said before.
func (d *decoder) decode() bool {
	d.event = event.Event{
		Time: time.Now().UnixNano(), Kind: event.Syscall,
		VM: d.t.cfg.VM, VCPU: int32(d.cpu.ID()),
		Call: event.Call{Name: d.site.call.name, FD: -1, Offset: -1},
	}
	c := &d.event.Call
	if !d.findTask() {
		d.missing(event.MissingProcess | event.MissingArgs | event.MissingPath | event.MissingFile)
		return true
	}
	if p, err := d.task.Process(); err == nil {
		d.event.Process = event.Process{PID: p.TGID, TID: p.PID, Parent: p.Parent, UID: p.UID, EUID: p.EUID, Name: p.Comm}
	} else {
		d.missing(event.MissingProcess)
	}
	if d.site.check {
		return d.program()
	}
	var err error
	if c.Number, c.Args, err = d.task.SystemCall(d.cpu.Arg(0), d.site.abi); err != nil {
		d.missing(event.MissingArgs | event.MissingPath | event.MissingFile)
		return true
	}
	d.site.call.read(d)
	if d.site.call.program {
		d.t.programs.remember(d.task.Addr(), c.File)
	}
	return true
}

func (d *decoder) findTask() bool {
	space, err := d.cpu.AddressSpace()
	if err != nil {
		return false
	}
	base, err := d.cpu.KernelBase()
	if err != nil {
		return false
	}
	d.task, err = d.guest.Current(view{space, d.t.m.Memory()}, base)
	return err == nil
}

// path reads the path in argument n and finds what it means.
func (d *decoder) path(dir int32, n int, follow bool) {
	c := &d.event.Call
	var err error
	if c.Path, err = d.task.String(c.Args[n]); err != nil {
		d.missing(event.MissingPath | event.MissingFile)
		return
	}
	loc, err := d.task.Resolve(dir, c.Path, d.shares(), follow)
	switch {
	case err == nil:
		if c.File = d.file(loc); d.site.call.program {
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
	if d.t.cfg.Shares == nil {
		return nil
	}
	return d.t.cfg.Shares
}

// file names a file as events do: on a share by the host's directory.
func (d *decoder) file(loc introspect.Location) event.File {
	f := event.File{Path: loc.Path, FS: loc.FS, Inner: loc.Inner, Inode: loc.Inode, Absent: !loc.Exists}
	if d.t.cfg.Shares == nil || loc.FS != introspect.ShareFS {
		return f
	}
	if sh := d.t.cfg.Shares.byTag[loc.Source]; sh != nil {
		f.Share, f.Device, f.Size = sh.dir, sh.device, -1
		if e, err := d.t.cfg.Shares.Lstat(loc.Source, loc.Inner); err == nil && e.Inode == loc.Inode {
			f.Size = e.Size
		}
	}
	return f
}

// content reads what a program on a share begins with.
func (d *decoder) content(loc introspect.Location) {
	if c := &d.event.Call; c.File.Share != "" && loc.Exists {
		c.Payload = d.t.cfg.Shares.head(loc.Source, loc.Inner, loc.Inode, d.t.cfg.Payload)
	}
}

// descriptor finds what the descriptor in argument 0 refers to.
func (d *decoder) descriptor() (introspect.File, bool) {
	c := &d.event.Call
	c.FD = int32(c.Args[0])
	f, err := d.task.File(c.FD)
	switch {
	case err == nil:
		if c.File, c.Flags = d.file(f.Location), f.Flags; d.site.call.program {
			d.content(f.Location)
		}
		return f, true
	case errors.Is(err, introspect.ErrNotOpen):
		// The call will say so.
	default:
		d.missing(event.MissingFile)
	}
	return introspect.File{}, false
}

func (d *decoder) openat() {
	d.event.Call.FD = int32(d.event.Call.Args[0])
	d.event.Call.Flags = uint32(d.event.Call.Args[2])
	d.path(d.event.Call.FD, 1, d.event.Call.Flags&unix.O_NOFOLLOW == 0)
}

func (d *decoder) execveat() {
	c := &d.event.Call
	flags := c.Args[4]
	if flags&unix.AT_EMPTY_PATH != 0 {
		if path, err := d.task.String(c.Args[1]); err == nil && path == "" {
			d.descriptor()
			return
		}
	}
	c.FD = int32(c.Args[0])
	d.path(c.FD, 1, flags&unix.AT_SYMLINK_NOFOLLOW == 0)
}

// A vector is where a write takes its bytes from.
type vector struct {
	base, size uint64
}

func (d *decoder) write() {
	c := &d.event.Call
	f, ok := d.descriptor()
	if ok {
		d.offset(f)
	}
	d.payload([]vector{{c.Args[1], c.Args[2]}})
}

func (d *decoder) pwrite() {
	c := &d.event.Call
	if f, ok := d.descriptor(); ok {
		// Linux appends even so (pwrite(2), BUGS).
		d.offset(f)
		if !c.Append {
			c.Offset = d.wide(3)
		}
	}
	d.payload([]vector{{c.Args[1], c.Args[2]}})
}

// wide is a 64-bit argument, which 32-bit programs pass in two halves: on arm
// in a pair of registers of which the first is even.
func (d *decoder) wide(n int) int64 {
	args := &d.event.Call.Args
	if d.site.abi == introspect.Native {
		return int64(args[n])
	}
	if d.guest.Arch() == "arm64" {
		n += n % 2
	}
	return int64(args[n] | args[n+1]<<32)
}

// maxVectors is how many pieces of a writev are read; Linux takes 1024.
const maxVectors = 1024

func (d *decoder) writev() {
	if f, ok := d.descriptor(); ok {
		d.offset(f)
	}
	d.vectors()
}

func (d *decoder) pwritev() {
	const appends = 0x10 // RWF_APPEND
	c := &d.event.Call
	// The offset comes in two halves, of which a 64-bit kernel needs one.
	at, flags := int64(c.Args[3]), uint64(0)
	if d.site.abi == introspect.Compat {
		at |= int64(c.Args[4]) << 32
	}
	if c.Name == "pwritev2" {
		flags = c.Args[5]
	}
	if f, ok := d.descriptor(); ok {
		if flags&appends != 0 {
			f.Flags |= unix.O_APPEND
		}
		// -1 is the file's own offset.
		if d.offset(f); !c.Append && (c.Name == "pwritev" || at != -1) {
			c.Offset = at
		}
	}
	d.vectors()
}

// vectors reads where a call takes its bytes from, and the bytes.
func (d *decoder) vectors() {
	c := &d.event.Call
	n, size := min(c.Args[2], maxVectors), uint64(16)
	if d.site.abi == introspect.Compat {
		size = 8
	}
	raw := make([]byte, n*size)
	if err := d.task.Read(raw, c.Args[1]); err != nil {
		d.missing(event.MissingPayload)
		return
	}
	vectors := make([]vector, n)
	for i := range vectors {
		p := raw[uint64(i)*size:]
		if size == 16 {
			vectors[i] = vector{le.Uint64(p), le.Uint64(p[8:])}
		} else {
			vectors[i] = vector{uint64(le.Uint32(p)), uint64(le.Uint32(p[4:]))}
		}
	}
	d.payload(vectors)
}

// offset says where in the file a write goes.
func (d *decoder) offset(f introspect.File) {
	c := &d.event.Call
	if c.Append = f.Flags&unix.O_APPEND != 0; !c.Append {
		c.Offset = f.Pos
		return
	}
	// The guest's idea of a share's file can be out of date, the host's is not.
	if c.Offset = f.Size; c.File.Share != "" && c.File.Size >= 0 {
		c.Offset = c.File.Size
	}
}

// maxWrite is the most that Linux writes in one call (MAX_RW_COUNT).
const maxWrite = 0x7ffff000

// payload adds up what is written and reads the start of it, if it goes to a
// share.
func (d *decoder) payload(from []vector) {
	c := &d.event.Call
	for _, v := range from {
		c.Size += min(v.size, maxWrite-c.Size)
	}
	if c.File.Share == "" {
		return
	}
	want := min(c.Size, uint64(max(d.t.cfg.Payload, 0)))
	for _, v := range from {
		n := min(v.size, want-uint64(len(c.Payload)))
		if !d.append(v.base, n) {
			d.missing(event.MissingPayload)
			return
		}
	}
}

// append reads n bytes of the payload, page by page, and says whether all were
// there.
func (d *decoder) append(base, n uint64) bool {
	const page = 4096
	c := &d.event.Call
	for n > 0 {
		part := min(n, page-base%page)
		at := len(c.Payload)
		c.Payload = append(c.Payload, make([]byte, part)...)
		if err := d.task.Read(c.Payload[at:], base); err != nil {
			c.Payload = c.Payload[:at]
			return false
		}
		base, n = base+part, n-part
	}
	return true
}
