package watch

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"warder/secmon/act"
	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/secmon/pattern"
	"warder/secmon/trap"
)

// machine is a machine that is watched.
type machine struct {
	target Target
	kernel *introspect.Kernel
	shares *trap.Shares
	seq    atomic.Uint64 // counts its events
	gone   atomic.Bool
	traps  atomic.Pointer[armed] // nil until armed

	openers openers

	standing  sync.Mutex // held while the machine is paused, or stands still for a snapshot
	snapshots int

	acts     *act.Watcher
	changing sync.Mutex // held while other traps are armed
	counting sync.Mutex
	past     trap.Stats // of traps that are not armed any more
}

// armed is traps and what they are armed for.
type armed struct {
	*trap.Traps
	wants wants
}

// first arms a machine's traps for the first time.
func (m *machine) first(ctx context.Context, w *Watch) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	var err error
	if m.shares, err = trap.OpenShares(m.target.Shares); err != nil {
		return err
	}
	traps, err := m.arm(ctx, w, w.wanted())
	if err != nil {
		return errors.Join(err, m.shares.Close())
	}
	m.traps.Store(traps)
	m.acts = act.Watch(m.target.Machine, act.Config{VM: m.target.Name, Kernel: m.kernel, Sink: func(e event.Event) { w.observe(m, e) }})
	m.acts.Located(traps.Guest())
	return nil
}

// arm arms traps. What they see counts from when they are those of the machine.
func (m *machine) arm(ctx context.Context, w *Watch, for_ wants) (*armed, error) {
	a := &armed{wants: for_}
	replaced := func() bool { now := m.traps.Load(); return now != nil && now != a } // those see it
	var err error
	a.Traps, err = trap.Arm(ctx, trap.Of(m.target.Machine), trap.Config{
		VM: m.target.Name, Kernel: m.kernel, Calls: for_.calls, Payload: for_.payload, Process: for_.process, Shares: m.shares,
		Sink: func(e event.Event) unix.Errno {
			if replaced() {
				return 0
			}
			return w.observe(m, e)
		},
		Flows: for_.flows, Sockets: for_.sockets, Flow: func(e event.Event) {
			if !replaced() {
				w.flowed(m, e)
			}
		}, Notice: func(message string) { w.notice(m, message) },
	})
	return a, err
}

// bring has an armed machine trap what is wanted now.
func (m *machine) bring(ctx context.Context, w *Watch) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	for {
		next, now := w.wanted(), m.traps.Load()
		if now.wants.equal(next) || m.gone.Load() {
			return nil
		}
		soon, cancel := context.WithTimeout(ctx, rearmTime)
		err := m.change(soon, w, now, next)
		cancel()
		if err != nil {
			return err
		}
	}
}

// change puts other traps in the place of those that are armed. What both want is
// hooked all the while.
func (m *machine) change(ctx context.Context, w *Watch, now *armed, next wants) error {
	traps, err := m.arm(ctx, w, next)
	if err != nil {
		return err
	}
	// No vCPU is in a hook: each call is seen once.
	err = m.target.Machine.WithVCPUsStopped(func() error {
		m.counting.Lock()
		defer m.counting.Unlock()
		m.past = sum(m.past, now.Stats())
		m.traps.Store(traps)
		return nil
	})
	if err != nil {
		return errors.Join(err, traps.Disarm(ctx))
	}
	return now.Disarm(ctx)
}

func sum(a, b trap.Stats) trap.Stats {
	a.Hits += b.Hits
	a.Denied += b.Denied
	a.Strays += b.Strays
	a.Undecoded += b.Undecoded
	a.Unfollowed += b.Unfollowed
	return a
}

// stats are the counts of all traps that the machine has had.
func (m *machine) stats() trap.Stats {
	m.counting.Lock()
	defer m.counting.Unlock()
	return sum(m.past, m.traps.Load().Stats())
}

// disarm takes the traps off for good.
func (m *machine) disarm(ctx context.Context) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	m.acts.Close()
	return errors.Join(m.traps.Load().Disarm(ctx), m.shares.Close())
}

// pausing is a pause of a machine that an act has asked for.
type pausing struct {
	done chan struct{}
	err  error // once done is closed
}

// pausing has the machine paused, once for all who want it because of one act: a
// second pause could come after somebody has resumed it.
func (w *Watch) pausing(m *machine) *pausing {
	p := &pausing{done: make(chan struct{})}
	w.responses.Go(func() {
		defer close(p.done)
		p.err = m.pause()
	})
	return p
}

// Respond implements [Responder].
func (p *pausing) Respond(string, pattern.Response) (string, error) {
	<-p.done
	return untilResumed, p.err
}

const untilResumed = "until it is resumed"

// pause pauses the machine until somebody resumes it.
func (m *machine) pause() error {
	m.standing.Lock()
	defer m.standing.Unlock()
	return m.target.Machine.Pause()
}
