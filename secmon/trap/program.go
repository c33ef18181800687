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
// The file is reported, as a call of its own, only when it is on a share and
// not what the entry was seen to name: another file, or an interpreter.
const programCheck = "security_bprm_check"

// program is the call that is reported from there, whichever of its kind led to it.
var program = call{name: "execve"}

// maxPrograms bounds how many tasks are remembered between entry and check. A
// task that has been forgotten is reported twice.
const maxPrograms = 4096

// programs remembers by task what the latest execve was seen to name.
type programs struct {
	mu    sync.Mutex
	named map[uint64]fileID
}

type fileID struct {
	device, inode uint64 // inode 0 for none
}

func (p *programs) remember(task uint64, f event.File) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.named == nil || len(p.named) >= maxPrograms {
		p.named = make(map[uint64]fileID)
	}
	p.named[task] = fileID{f.Device, f.Inode}
}

func (p *programs) isNamed(task uint64, f event.File) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return f.Inode != 0 && p.named[task] == fileID{f.Device, f.Inode}
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
	c.Path, c.File = name, d.file(loc)
	d.content(loc)
	return c.File.Share != "" && !d.t.programs.isNamed(d.task.Addr(), c.File)
}
