package trap

import (
	"sync"

	"warder/secmon/event"
)

// programCheck is where the kernel asks its security modules about a file that
// it has opened to execute it. At the entry of execve the path is in memory
// that the program can change, or may not be in memory at all, and where it
// leads is ours to find out. Here the kernel itself has found it.
//
// The file is reported, as a call of its own, only when the entry did not tell
// which it is, or when it is on a share and not what the entry was seen to name:
// another file, or an interpreter.
const programCheck = "security_bprm_check"

// maxPrograms bounds how many tasks are remembered between entry and check. A
// task that has been forgotten is reported twice.
const maxPrograms = 4096

// programs remembers by task what the latest execve was seen to name.
type programs struct {
	mu    sync.Mutex
	named map[uint64]named
}

// named is what an execve asked for.
type named struct {
	device, inode uint64 // inode 0 for none
	process       event.Process
}

func (p *programs) remember(task uint64, e *event.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.named == nil || len(p.named) >= maxPrograms {
		p.named = make(map[uint64]named)
	}
	p.named[task] = named{e.Call.File.Device, e.Call.File.Inode, e.Process}
}

// recall gives what the task's latest execve asked for.
func (p *programs) recall(task uint64) (named, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.named[task]
	return n, ok
}

// program reads the file that the kernel is about to execute. It gives false
// when there is nothing new to say of it.
func (d *decoder) program() bool {
	c := &d.event.Call
	d.missing(event.MissingArgs)
	loc, name, err := d.task.Program(d.cpu.Arg(0))
	if err != nil {
		d.missing(event.MissingPath | event.MissingFile)
		return true
	}
	c.Path, c.File = name, d.named(loc)
	d.content(loc)
	asked, ok := d.h.programs.recall(d.task.Addr())
	if ok && d.armed.wants.process {
		// The task has not become another yet: what it was called with is what
		// the program gets.
		d.event.Process = asked.process
		d.event.Process.Exe = c.File.Path
	}
	if ok && asked.inode == 0 && d.armed.wants.process {
		return true // the entry did not tell which program it is
	}
	same := ok && c.File.Inode != 0 && asked.inode == c.File.Inode && asked.device == c.File.Device
	return c.File.Share != "" && !same
}
