package introspect

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
)

// Linux' own limits: include/uapi/linux/limits.h.
const (
	maxPath = 4096
	maxName = 255
)

// Task asks about one task of a guest, in the address space of View. Both must
// be those of a vCPU that stands still, or answers may be of different times.
type Task struct {
	guest *Guest
	view  View
	addr  uint64
	r     reader
}

// reader starts a question about the task.
func (t *Task) reader() *reader {
	t.r.Guest, t.r.v, t.r.left, t.r.mount = t.guest, t.view, maxReads, 0
	return &t.r
}

// Process is who a task is.
type Process struct {
	PID       uint32 // of the thread: the kernel's pid
	TGID      uint32 // of the process: what user space calls pid
	Parent    uint32 // TGID of the parent
	UID, EUID uint32
	Comm      string
}

// Current finds the task that a vCPU runs, from its base: on amd64 the GS base
// in kernel mode (the per-CPU area), on arm64 SP_EL0 (the task itself).
func (g *Guest) Current(v View, base uint64) (*Task, error) {
	t := new(Task)
	if err := t.find(g, v, base); err != nil {
		return nil, err
	}
	return t, nil
}

// Next makes t the task that a vCPU runs now, as [Guest.Current] finds it. A Task
// that is asked about one task after the other has the memory that it needs, and
// the strings that it has met.
func (t *Task) Next(g *Guest, v View, base uint64) error {
	if t.r.met == nil {
		t.r.met = maps.Clone(words)
	}
	return t.find(g, v, base)
}

func (t *Task) find(g *Guest, v View, base uint64) (err error) {
	if t.view != v {
		t.r.pages, _ = v.(Pages)
	}
	t.guest, t.view, t.addr = g, v, base
	if g.arch == "amd64" {
		if t.addr, err = t.reader().follow(base, field{g.currentTask, 8}); err != nil {
			return fmt.Errorf("current task: %w", err)
		}
	}
	if t.addr == 0 {
		return fmt.Errorf("current task: %w: nil pointer", ErrWalk)
	}
	return nil
}

// Interned is the string of these bytes, without a copy of one that an earlier
// answer was.
func (t *Task) Interned(p []byte) string { return t.r.interned(p) }

// Addr is the address of the task's structure, which is its own while it lives.
func (t *Task) Addr() uint64 { return t.addr }

// Process reads who the task is.
func (t *Task) Process() (Process, error) {
	r, l := t.reader(), t.guest.layout
	var p Process
	var err error
	get := func(base uint64, f field) uint32 {
		if err != nil {
			return 0
		}
		var v uint64
		v, err = r.uint(base, f)
		return uint32(v)
	}
	p.PID = get(t.addr, l.taskPID)
	p.TGID = get(t.addr, l.taskTGID)
	if cred, e := r.follow(t.addr, l.taskCred); e == nil {
		p.UID, p.EUID = get(cred, l.credUID), get(cred, l.credEUID)
	} else if err == nil {
		err = e
	}
	if parent, e := r.follow(t.addr, l.taskParent); e == nil {
		p.Parent = get(parent, l.taskTGID)
	} else if err == nil {
		err = e
	}
	if err != nil {
		return Process{}, fmt.Errorf("task %#x: %w", t.addr, err)
	}
	comm := r.text[:min(l.taskComm.size, 64)]
	if err := r.read(comm, t.addr+l.taskComm.off); err != nil {
		return Process{}, fmt.Errorf("task %#x: %w", t.addr, err)
	}
	if end := bytes.IndexByte(comm, 0); end >= 0 {
		comm = comm[:end]
	}
	p.Comm = r.interned(comm)
	return p, nil
}

// String reads a path or another string of less than 4096 bytes from the
// task's memory.
func (t *Task) String(va uint64) (string, error) {
	return t.reader().cstring(va, maxPath)
}

// Read reads len(p) bytes from the task's memory.
func (t *Task) Read(p []byte, va uint64) error {
	return t.reader().read(p, va)
}

// SystemCall reads a system call's number and arguments from the struct
// pt_regs that its handler was called with.
func (t *Task) SystemCall(regs uint64, abi ABI) (number uint32, args [6]uint64, err error) {
	r, l := t.reader(), &t.guest.layout.calls[abi]
	p := r.text[:min(r.layout.ptRegs.size, maxPath)]
	if err := r.read(p, regs); err != nil {
		return 0, args, fmt.Errorf("pt_regs: %w", err)
	}
	for i, f := range l.arg {
		args[i] = f.in(p)
		if abi == Compat {
			args[i] = uint64(uint32(args[i]))
		}
	}
	return uint32(l.number.in(p)), args, nil
}

// Is32Bit says whether a system call comes from a 32-bit program, where both
// kinds come in by the same handler: by its code segment (__USER32_CS in
// arch/x86/include/asm/segment.h) or its state (Arm ARM, SPSR_EL1.M[4]).
func (t *Task) Is32Bit(regs uint64) (bool, error) {
	const user32 = 0x23
	r := t.reader()
	if t.guest.Arch() == "amd64" {
		v, err := r.uint(regs, r.layout.codeSegment)
		return uint16(v) == user32, err
	}
	v, err := r.uint(regs, r.layout.pstate)
	return v&(1<<4) != 0, err
}

// File is what a file descriptor refers to.
type File struct {
	Location
	Pos   int64  // the file's offset
	Flags uint32 // of open(2) and fcntl(2), such as O_APPEND
	Size  int64  // as the guest has it: for a share it may be out of date
}

// ErrNotOpen is the error for a file descriptor that is not open.
var ErrNotOpen = errors.New("not open")

// File reads what one of the task's file descriptors refers to. The error
// wraps [ErrNotOpen], [ErrNotResident] or [ErrWalk].
func (t *Task) File(fd int32) (File, error) {
	r, l := t.reader(), t.guest.layout
	addr, err := r.file(t.addr, fd)
	if err != nil {
		return File{}, fmt.Errorf("fd %d: %w", fd, err)
	}
	var f File
	pos, err := r.uint(addr, l.filePos)
	if err == nil {
		f.Pos = int64(pos)
		var flags uint64
		flags, err = r.uint(addr, l.fileFlags)
		f.Flags = uint32(flags)
	}
	if err == nil {
		var inode, size uint64
		if inode, err = r.follow(addr, l.fileInode); err == nil {
			size, err = r.uint(inode, l.inodeSize)
			f.Size = int64(size)
		}
	}
	var at place
	if err == nil {
		at, err = r.place(addr + l.filePath.off)
	}
	if err == nil {
		f.Location, err = r.locate(at)
	}
	if err != nil {
		return File{}, fmt.Errorf("fd %d: %w", fd, err)
	}
	return f, nil
}

// Program reads which file the kernel has opened to execute it, and the path
// that it did so by, from a struct linux_binprm.
func (t *Task) Program(binprm uint64) (loc Location, name string, err error) {
	r, l := t.reader(), t.guest.layout
	file, err := r.follow(binprm, l.programFile)
	if err != nil {
		return Location{}, "", fmt.Errorf("program: %w", err)
	}
	at, err := r.place(file + l.filePath.off)
	if err == nil {
		loc, err = r.locate(at)
	}
	if err != nil {
		return Location{}, "", fmt.Errorf("program: %w", err)
	}
	path, err := r.follow(binprm, l.programName)
	if err == nil {
		name, err = r.cstring(path, maxPath)
	}
	if err != nil {
		return Location{}, "", fmt.Errorf("program: %w", err)
	}
	return loc, name, nil
}

// file gives the address of the struct file of a descriptor.
func (r *reader) file(task uint64, fd int32) (uint64, error) {
	table, err := r.follow(task, r.layout.taskFiles, r.layout.filesTable)
	if err != nil {
		return 0, err
	}
	n, err := r.uint(table, r.layout.tableMax)
	if err != nil {
		return 0, err
	}
	if fd < 0 || uint64(fd) >= n {
		return 0, ErrNotOpen
	}
	slots, err := r.follow(table, r.layout.tableFiles)
	if err != nil {
		return 0, err
	}
	f, err := r.pointer(slots, field{8 * uint64(fd), 8})
	if err == nil && f == 0 {
		return 0, ErrNotOpen
	}
	return f, err
}
