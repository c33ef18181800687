package introspect

import (
	"fmt"

	"github.com/cilium/ebpf/btf"

	"warder/devices/guestmem"
)

// processLayout says where what a process is made of lies. Members that a kernel
// may do without have size 0 there.
type processLayout struct {
	taskMM, taskLeader, taskStart, taskLogin field

	mmExe, mmArgs, mmArgsEnd, mmRoot field
}

func newProcessLayout(spec *btf.Spec) (processLayout, error) {
	var l processLayout
	for _, w := range []struct {
		to        *field
		typ, path string
	}{
		{&l.taskMM, "task_struct", "mm"},
		{&l.taskLeader, "task_struct", "group_leader"},
		{&l.taskStart, "task_struct", "start_boottime"},
		{&l.mmExe, "mm_struct", "exe_file"},
		{&l.mmArgs, "mm_struct", "arg_start"},
		{&l.mmArgsEnd, "mm_struct", "arg_end"},
		{&l.mmRoot, "mm_struct", "pgd"},
	} {
		var err error
		if *w.to, err = fieldOf(spec, w.typ, w.path); err != nil {
			return l, err
		}
	}
	l.taskLogin, _ = fieldOf(spec, "task_struct", "loginuid") // CONFIG_AUDIT
	return l, nil
}

// Spaces is a View that can look into the memory of other processes too.
type Spaces interface {
	View
	// Physical translates an address.
	Physical(va uint64) (guestmem.Addr, error)
	// Of is the view of a process whose tables are at a physical address.
	Of(tables guestmem.Addr) Spaces
}

// Identity tells a process from every other that the guest has had: an address
// alone is used again.
type Identity struct {
	Start    uint64 // nanoseconds from boot
	TGID     uint32
	mm, file uint64
}

// Identity reads which process a task is of, and which program it runs: an
// execve makes it another. It is an error for a task of the kernel's own.
func (t *Task) Identity() (Identity, error) {
	r, l := t.reader(), t.guest.layout
	mm, err := r.follow(t.addr, l.process.taskMM)
	if err != nil {
		return Identity{}, fmt.Errorf("task %#x: no memory of its own: %w", t.addr, err)
	}
	id := Identity{mm: mm}
	if id.file, err = r.follow(mm, l.process.mmExe); err != nil {
		return Identity{}, fmt.Errorf("task %#x: program: %w", t.addr, err)
	}
	leader, err := r.follow(t.addr, l.process.taskLeader)
	if err == nil {
		id.Start, err = r.uint(leader, l.process.taskStart)
	}
	if err == nil {
		var tgid uint64
		tgid, err = r.uint(t.addr, l.taskTGID)
		id.TGID = uint32(tgid)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("task %#x: %w", t.addr, err)
	}
	return id, nil
}

// Executable is the file that the task's process runs.
func (t *Task) Executable() (Location, error) {
	r, l := t.reader(), t.guest.layout
	file, err := r.follow(t.addr, l.process.taskMM, l.process.mmExe)
	if err != nil {
		return Location{}, fmt.Errorf("program of task %#x: %w", t.addr, err)
	}
	at, err := r.place(file + l.filePath.off)
	if err != nil {
		return Location{}, fmt.Errorf("program of task %#x: %w", t.addr, err)
	}
	return r.locate(at)
}

// Args are the arguments of the task's process, each with a NUL behind it, at
// most limit bytes of them. They are as the process has them now: it can change
// them. The error wraps [ErrNotResident] where they are not in memory.
func (t *Task) Args(limit int) (string, error) {
	r, l := t.reader(), t.guest.layout
	mm, err := r.follow(t.addr, l.process.taskMM)
	if err != nil {
		return "", fmt.Errorf("arguments of task %#x: %w", t.addr, err)
	}
	start, err := r.uint(mm, l.process.mmArgs)
	if err != nil {
		return "", err
	}
	end, err := r.uint(mm, l.process.mmArgsEnd)
	if err != nil {
		return "", err
	}
	if end < start {
		return "", fmt.Errorf("%w: arguments that end before they start", ErrWalk)
	}
	args := make([]byte, min(end-start, uint64(max(limit, 0))))
	if err := r.read(args, start); err != nil {
		return "", fmt.Errorf("arguments of task %#x: %w", t.addr, err)
	}
	return string(args), nil
}

// Dir is the task's working directory.
func (t *Task) Dir() (string, error) {
	r := t.reader()
	at, err := r.taskPlace(t.addr, r.layout.fsPwd)
	if err != nil {
		return "", fmt.Errorf("directory of task %#x: %w", t.addr, err)
	}
	return r.absolute(at)
}

// Login is the user with whom the task's session began. It gives false where
// nobody logged in or the kernel does not keep it.
func (t *Task) Login() (uid uint32, ok bool) {
	r, l := t.reader(), t.guest.layout
	if l.process.taskLogin.size == 0 {
		return 0, false
	}
	v, err := r.uint(t.addr, l.process.taskLogin)
	return uint32(v), err == nil && uint32(v) != 1<<32-1
}

// Parent is the task's parent, looked at in its own address space.
func (t *Task) Parent() (*Task, error) {
	r, l := t.reader(), t.guest.layout
	addr, err := r.follow(t.addr, l.taskParent)
	if err != nil {
		return nil, fmt.Errorf("parent of task %#x: %w", t.addr, err)
	}
	parent := &Task{guest: t.guest, view: t.view, addr: addr}
	spaces, ok := t.view.(Spaces)
	if !ok {
		return parent, nil
	}
	pgd, err := r.follow(addr, l.process.taskMM, l.process.mmRoot)
	if err != nil {
		return parent, nil // of the kernel's own
	}
	tables, err := spaces.Physical(pgd)
	if err != nil {
		return nil, fmt.Errorf("parent of task %#x: %w: %w", t.addr, ErrNotResident, err)
	}
	parent.view = spaces.Of(tables)
	return parent, nil
}
