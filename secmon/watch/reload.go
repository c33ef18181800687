package watch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"warder/secmon/event"
	"warder/secmon/pattern"
	"warder/secmon/trap"
)

// rearmTime is how long one machine may keep its kernel from being found when
// its traps change. It is watched by those of before until then.
const rearmTime = 5 * time.Second

// wants is what traps are armed for.
type wants struct {
	calls   []string // sorted; only such as can be trapped
	payload int
	process bool
	flows   []string // sorted; calls of which the flow is wanted
	sockets []string // sorted; those among them that are wanted for nothing else
	message int      // bytes of messages that rules look at; no matter of traps
	share   int      // bytes of what is written to a share and read there; neither
}

// needed is what a library needs of traps.
func needed(l *pattern.Library) wants {
	n := l.Needs()
	return wants{
		calls: slices.DeleteFunc(n.Syscalls, func(c string) bool { return !trap.Known(c) }), flows: n.Flows, sockets: n.Sockets,
		payload: n.Payload, process: n.Process, message: n.Message, share: n.Share,
	}
}

// Unseen are the calls that a library needs and that cannot be trapped.
func Unseen(l *pattern.Library) []string {
	return slices.DeleteFunc(l.Needs().Syscalls, trap.Known)
}

func (a wants) equal(b wants) bool {
	return a.payload == b.payload && a.process == b.process && slices.Equal(a.calls, b.calls) && slices.Equal(a.flows, b.flows) && slices.Equal(a.sockets, b.sockets)
}

// Reload has the watch evaluate another library from the next event on, and trap
// what that needs. What is under way for rules that are the same in both goes on.
// What was trapped and still is to be, is trapped all the while.
//
// A machine whose traps cannot be changed keeps those that it has: it is in the
// error, and in an event, and [Watch.Rearm] tries it again.
func (w *Watch) Reload(ctx context.Context, rules *pattern.Library) error {
	w.reloading.Lock()
	defer w.reloading.Unlock()
	if err := w.engine.Reload(rules); err != nil {
		return err
	}
	w.mu.Lock()
	w.wants = needed(rules)
	w.mu.Unlock()
	return w.rearm(ctx)
}

// Library is what is evaluated now.
func (w *Watch) Library() *pattern.Library { return w.engine.Library() }

// Rearm tries the machines again whose traps could not be changed.
func (w *Watch) Rearm(ctx context.Context) error {
	w.reloading.Lock()
	defer w.reloading.Unlock()
	return w.rearm(ctx)
}

// wanted is what all traps are to be armed for.
func (w *Watch) wanted() wants {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wants
}

// rearm has all machines trap what is wanted.
func (w *Watch) rearm(ctx context.Context) error {
	w.mu.Lock()
	machines := maps.Clone(w.machines)
	w.mu.Unlock()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(machines)) {
		if machines[name].traps.Load() != nil { // else Attach looks again when it is done
			errs = append(errs, w.bring(ctx, name, machines[name]))
		}
	}
	return errors.Join(errs...)
}

// bring has an armed machine trap what is wanted now. An error is an event, too.
func (w *Watch) bring(ctx context.Context, name string, m *machine) error {
	err := m.bring(ctx, w)
	if err == nil || m.gone.Load() {
		return nil
	}
	err = fmt.Errorf("watch %s: it is watched by the traps of before: %w", name, err)
	w.Events.Put(event.Event{Time: time.Now().UnixNano(), Kind: event.Lifecycle, VM: name, Message: err.Error()})
	return err
}
