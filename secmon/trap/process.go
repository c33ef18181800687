package trap

import (
	"sync"

	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/secmon/syscalls"
)

// maxProcesses bounds how many processes are remembered.
const maxProcesses = 4096

// processes remembers which program a process runs and with which arguments, so
// that its path is not followed and its stack not read at every call. Both are as
// they were when the process was first seen running the program.
type processes struct {
	mu    sync.Mutex
	known map[introspect.Identity]program
}

// program is what a process runs.
type program struct {
	exe, args string
}

// of finds what a task's process runs. It gives false when something of that
// is not to be had; what is missing is empty.
func (p *processes) of(t *introspect.Task) (program, bool) {
	id, err := t.Identity()
	if err != nil {
		return program{}, false
	}
	p.mu.Lock()
	found, ok := p.known[id]
	p.mu.Unlock()
	if ok {
		return found, true
	}
	exe, err := t.Executable()
	args, err2 := t.Args(maxText)
	found = program{exe.Path, args}
	if err != nil || err2 != nil {
		return found, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxProcesses {
		p.known = make(map[introspect.Identity]program)
	}
	p.known[id] = found
	return found, true
}

// process fills in what the acting process is beyond its numbers: of an execve,
// what it is about to be and where that comes from.
func (d *decoder) process() {
	p := &d.event.Process
	p.Login, p.LoggedIn = d.task.Login()
	if !isExec(d.call.Name) {
		self, ok := d.h.processes.of(&d.task)
		if p.Exe, p.Args = self.exe, self.args; !ok {
			d.missing(event.MissingProgram)
		}
		return
	}
	c := &d.event.Call
	for i, param := range d.call.Params {
		if param.Kind == syscalls.Argv {
			p.Args = c.Data[i]
		}
	}
	p.Exe = c.File.Path
	var err error
	if p.Dir, err = d.task.Dir(); err != nil {
		d.missing(event.MissingProgram)
	}
	parent, err := d.task.Parent()
	if err != nil {
		d.missing(event.MissingProgram)
		return
	}
	up, ok := d.h.processes.of(parent)
	if p.ParentExe, p.ParentArgs = up.exe, up.args; !ok && p.Parent > 2 {
		// Those that the kernel starts itself have a parent without a program.
		d.missing(event.MissingProgram)
	}
}
