package trap

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/introspect"
)

// Sink takes the event of a call that is about to run and says with which
// error the call is to fail, 0 to let it run. It is called on the vCPU's
// thread while the guest waits: it must be quick and safe for concurrent use.
type Sink func(event.Event) unix.Errno

// Config says what to trap.
type Config struct {
	VM     string // the machine's name in events
	Kernel *introspect.Kernel
	// Calls are the names of system calls, as in "openat".
	Calls []string
	// Payload is how many bytes of what is written to a share are reported.
	Payload int
	// Process has each event say which program the process runs, with which
	// arguments; of an execve also where, and the parent's.
	Process bool
	// Arguments has each event carry what all parameters of the call point to, and
	// Data how many bytes of a buffer.
	Arguments bool
	Data      int
	Shares    *Shares // nil when the machine has none
	Sink      Sink
	// Notice, unless it is nil, takes what is to be known of the hooks themselves. It must
	// be quick.
	Notice func(message string)
	// Hold, unless it is nil, is asked of a call that the sink has let pass whether
	// it has to wait. While it does, the vCPU stands still.
	Hold func(event.Event) *Hold
	// Result, unless it is nil, takes the event of a call that has returned, with
	// its result and, if Arguments is set, what it has written to its caller's memory. It is
	// called as the sink is. Calls that never return have none.
	Result func(event.Event)
	// Flow, unless it is nil, takes what calls on sockets of IP have done with which flow, when
	// they have returned: of those in Flows, which are among Calls. It is called as the
	// sink is. A kernel that cannot be made to tell of returns has none of that, and Notice
	// is told.
	Flow  func(event.Event)
	Flows []string
	// Sockets are those among Calls that concern the client on sockets of IP alone.
	Sockets []string
}

// Stats count what the traps did.
type Stats struct {
	Hits      uint64
	Denied    uint64
	Strays    uint64 // hits at an address that is no site of ours
	Undecoded uint64 // events with something missing
	// Unfollowed are calls of which the result was wanted and is not known, as there were
	// too many at once.
	Unfollowed uint64
}

// Traps are what one client has hooked in a machine.
type Traps struct {
	cfg Config
	h   *hooks

	seq, hits, denied, strays, undecoded, unfollowed atomic.Uint64
}

// Arm hooks the handlers of the calls in a running machine. When one of them
// cannot be hooked, none is. A machine can be armed several times: each event then goes to all
// who asked for its call, and fails with the first error that one of them gives.
//
// It waits, until ctx ends, for the kernel to show itself in the registers of
// a vCPU and to be ready to be hooked, which it is before it runs its first program. The
// error wraps introspect.ErrNotLocated when it never did and [ErrNotPatchable]
// when a handler has no NOP.
func Arm(ctx context.Context, m Machine, cfg Config) (*Traps, error) {
	if cfg.Kernel == nil || cfg.Sink == nil {
		return nil, errors.New("trap: a kernel and a sink are needed")
	}
	t := &Traps{cfg: cfg, h: of(m)}
	if err := t.h.join(ctx, t); err != nil {
		return nil, fmt.Errorf("trap: %s: %w", cfg.VM, err)
	}
	return t, nil
}

// Disarm takes the hooks off; what nobody else wants to see is then as it was in
// the kernel's code. A site that somebody else has changed meanwhile is left as it
// is and reported. It waits as Arm does for the kernel to show itself.
//
// On arm64, if results were wanted, one place stays hooked until the calls
// that were under way have returned.
func (t *Traps) Disarm(ctx context.Context) error {
	if err := t.h.leave(ctx, t); err != nil {
		return fmt.Errorf("trap: %s: %w", t.cfg.VM, err)
	}
	return nil
}

// Functions lists the kernel functions that are hooked.
func (t *Traps) Functions() []string {
	var names []string
	for _, s := range t.h.now.Load().sites {
		if slices.Contains(s.clients, t) {
			names = append(names, s.name)
		}
	}
	slices.Sort(names)
	return names
}

// Guest is the running kernel as it was found.
func (t *Traps) Guest() *introspect.Guest { return t.h.now.Load().guest }

// Stats gives the counts so far.
func (t *Traps) Stats() Stats {
	return Stats{t.hits.Load(), t.denied.Load(), t.strays.Load(), t.undecoded.Load(), t.unfollowed.Load()}
}
