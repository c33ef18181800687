// Package integrity tells what is in a running guest that was not put there.
//
// It is for a guest of which the host knows all that is to run in it. [Take] looks at
// one that nobody has spoken to, and [Baseline.Check] looks again, from outside and while it runs, at
//
//   - the kernel's code. The kernel itself changes it at its jump labels, between two
//     forms that are known, and warder at its hooks;
//   - where vectors and system calls lead, and which modules there are;
//   - the code of every process, which is that of the files that the host has put there,
//     byte for byte as far as it is in memory.
//
// It sees neither data that was changed nor code that came and went between two looks.
package integrity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"warder/secmon/introspect"
)

// What a Change is of.
const (
	KernelCode = "kernel code"
	Entry      = "entry" // into the kernel
	Module     = "module"
	Process    = "process"
	Records    = "records" // that the kernel keeps, and that lead nowhere
)

// A Change is something that is not as it was put there.
type Change struct {
	Of   string `json:"of"`
	Text string `json:"text"` // a sentence for a person, without control characters
}

func (c Change) String() string { return c.Of + ": " + c.Text }

// Config says what is to be in a guest.
type Config struct {
	// Programs are the files whose code may run, by their path in the guest.
	Programs map[string][]byte
	// Unhook, unless it is nil, puts into code that was read at an address what warder's
	// own hooks stand in place of.
	Unhook func(at uint64, code []byte)
}

// A Baseline is how a guest was when it was taken.
type Baseline struct {
	cfg     Config
	live    *introspect.Live
	text    *text
	vdso    map[uint64]sum // by offset
	entries map[string]bool
	modules map[string]bool
}

// Take looks at a guest in which nothing has happened yet. The error says what the kernel does not
// tell, without which there is no check.
func Take(ctx context.Context, live *introspect.Live, cfg Config) (*Baseline, error) {
	b := &Baseline{cfg: cfg, live: live, vdso: make(map[uint64]sum), entries: make(map[string]bool), modules: make(map[string]bool)}
	fail := func(err error) (*Baseline, error) { return nil, fmt.Errorf("integrity: %w", err) }
	var err error
	if b.text, err = takeText(live, live.View(), cfg.Unhook); err != nil {
		return fail(err)
	}
	entries, err := b.suspects(ctx)
	if err != nil {
		return fail(err)
	}
	for _, e := range entries {
		b.entries[e] = true
	}
	modules, err := live.Modules(ctx)
	if err != nil {
		return fail(err)
	}
	for _, m := range modules {
		b.modules[moduleName(m)] = true
	}
	if err := b.takeVDSO(ctx); err != nil {
		return fail(err)
	}
	// What is there already that should not be is found at once.
	return b, nil
}

// Looks of one check: what the kernel or a process is about to change is different
// in the next one.
const (
	looks  = 3
	settle = 50 * time.Millisecond
)

// Check looks again, and gives what has changed; the error is that of ctx. Records that
// cannot be followed any more are a change, as the guest could be followed once.
func (b *Baseline) Check(ctx context.Context) ([]Change, error) {
	var found []Change
	for n := range looks {
		if n > 0 {
			select {
			case <-time.After(settle):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		now := b.look(ctx)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if n > 0 {
			now = slices.DeleteFunc(now, func(c Change) bool { return !slices.Contains(found, c) })
		}
		if found = now; len(found) == 0 {
			break
		}
	}
	return found, nil
}

// Bounds of what one look tells: a guest can have any number of processes, and call them
// what it likes.
const (
	maxChanges = 64
	maxText    = 256 // bytes
)

// tooMany stands for all changes beyond these. It is the same in each look.
var tooMany = Change{Records, fmt.Sprintf("more than %d changes", maxChanges)}

// printable is text with what a guest calls things, fit for a line of output.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s[:min(len(s), maxText)])
	return strings.ToValidUTF8(s, "?")
}

// look looks once.
func (b *Baseline) look(ctx context.Context) (found []Change) {
	add := func(of, format string, args ...any) {
		switch n := len(found); {
		case n < maxChanges:
			found = append(found, Change{of, printable(fmt.Sprintf(format, args...))})
		case n == maxChanges:
			found = append(found, tooMany)
		}
	}
	if changed, err := b.text.changed(b.live.View(), b.cfg.Unhook); err != nil {
		add(KernelCode, "%v", err)
	} else {
		for _, at := range changed {
			add(KernelCode, "it is another one from %#x on, at %s", at, b.live.Near(at))
		}
	}
	if entries, err := b.suspects(ctx); err != nil {
		add(Records, "%v", err)
	} else {
		for _, e := range entries {
			if !b.entries[e] {
				add(Entry, "%s", e)
			}
		}
	}
	modules, err := b.live.Modules(ctx)
	if err != nil {
		add(Records, "%v", err)
	}
	for _, m := range modules {
		if name := moduleName(m); !b.modules[name] {
			add(Module, "%s was not there", name)
		}
	}
	processes, err := b.live.Processes(ctx)
	if err != nil {
		add(Records, "%v", err)
	}
	for _, p := range processes {
		if p.Hidden {
			add(Process, "%d (%s) hides", p.PID, p.Comm)
		}
		why, err := b.process(ctx, p)
		switch {
		case errors.Is(err, introspect.ErrNoProcess): // any more
		case err != nil:
			add(Records, "%v", err)
		case why != "":
			add(Process, "%d (%s): %s", p.PID, p.Comm, why)
		}
	}
	return found
}

// suspects are the entries of the kernel that lead where they should not.
func (b *Baseline) suspects(ctx context.Context) (all []string, err error) {
	vectors, err := b.live.Vectors(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range vectors {
		if v.Suspect != "" {
			all = append(all, fmt.Sprintf("vector %s leads to %#x, %s", v.Name, uint64(v.Handler), v.Suspect))
		}
	}
	calls, err := b.live.Syscalls(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range calls {
		if c.Suspect != "" {
			all = append(all, fmt.Sprintf("%s system call %d leads to %#x, %s", c.ABI, c.Number, uint64(c.Handler), c.Suspect))
		}
	}
	return all, nil
}

func moduleName(m introspect.ModuleInfo) string {
	if m.Hidden {
		return fmt.Sprintf("%s at %#x, which hides", m.Name, uint64(m.Base))
	}
	return fmt.Sprintf("%s at %#x", m.Name, uint64(m.Base))
}
