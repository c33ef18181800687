package strace

import (
	"slices"
	"strings"
	"sync"

	"warder/secmon/event"
)

// Config says what a [Tracer] is to see.
type Config struct {
	Arch  string // of the guest, as GOARCH names it
	Calls Set
	// Command is the program whose process is traced: the first that executes
	// something with these arguments. Without it and without PIDs all are.
	Command []string
	PIDs    []uint32
	// Follow has the processes and threads traced that those begin.
	Follow bool
}

// A Tracer picks the events of the processes that are traced. Its methods may be
// called from several goroutines.
type Tracer struct {
	cfg Config
	out func(event.Event)

	mu     sync.Mutex
	traced map[uint32]bool // by process; nil for all
	found  bool            // the command's process is
}

// New makes a tracer that hands what is to be written to out.
func New(cfg Config, out func(event.Event)) *Tracer {
	t := &Tracer{cfg: cfg, out: out}
	if len(cfg.Command) > 0 || len(cfg.PIDs) > 0 {
		t.traced = map[uint32]bool{}
	}
	for _, pid := range cfg.PIDs {
		t.traced[pid] = true
	}
	return t
}

// forks are the calls that make processes, and what they give their callers is
// whose number it has.
var forks = []string{"clone", "clone3", "fork", "vfork"}

// Traps lists the calls that have to be trapped: those that are to be seen, and
// those that say who is traced.
func (t *Tracer) Traps() []string {
	need := Set{}
	for n := range t.cfg.Calls {
		need[n] = true
	}
	if len(t.cfg.Command) > 0 {
		need["execve"] = true
	}
	if t.traced != nil && t.cfg.Follow {
		for _, n := range forks {
			if all := callsOf(t.cfg.Arch); all[n] {
				need[n] = true
			}
		}
	}
	if t.traced != nil {
		need["exit_group"] = true
	}
	return need.Names()
}

// Entered takes the event of a call that is about to run.
func (t *Tracer) Entered(e event.Event) {
	c := &e.Call
	t.mu.Lock()
	if !t.found && len(t.cfg.Command) > 0 && c.Name == "execve" && slices.Equal(arguments(c), t.cfg.Command) {
		t.found = true
		t.traced[e.Process.PID] = true
	}
	in := t.isTraced(&e)
	if in && c.Name == "exit_group" && t.traced != nil {
		delete(t.traced, e.Process.PID)
	}
	t.mu.Unlock()
	if in && ends[c.Name] && t.cfg.Calls[c.Name] {
		t.out(e)
	}
}

// ends are the calls that never return.
var ends = map[string]bool{"exit": true, "exit_group": true}

// arguments are those of an execve.
func arguments(c *event.Call) []string {
	const argv = 1
	if c.Read&(1<<argv) == 0 || c.Data[argv] == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(c.Data[argv], "\x00"), "\x00")
}

// Returned takes the event of a call that has returned.
func (t *Tracer) Returned(e event.Event) {
	c := &e.Call
	t.mu.Lock()
	in := t.isTraced(&e)
	if in && t.cfg.Follow && t.traced != nil && c.Result > 0 && slices.Contains(forks, c.Name) {
		t.traced[uint32(c.Result)] = true
	}
	t.mu.Unlock()
	if in && t.cfg.Calls[c.Name] {
		t.out(e)
	}
}

// isTraced says whether a call is of a process that is traced. A child may be seen
// before the call that has made it returns.
func (t *Tracer) isTraced(e *event.Event) bool {
	p := &e.Process
	if t.traced == nil {
		return true
	}
	if t.traced[p.PID] {
		return t.cfg.Follow || p.TID == p.PID
	}
	if t.cfg.Follow && t.traced[p.Parent] {
		t.traced[p.PID] = true
		return true
	}
	return false
}
