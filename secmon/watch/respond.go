package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/pattern"
)

// Responder carries out what rules ask for besides the fate of the act itself.
type Responder interface {
	// Respond does one thing about one machine, and says in a few words what came
	// of it where there is more to say than that it was done.
	Respond(vm string, r pattern.Response) (detail string, err error)
}

const (
	// maxResponding is how many alerts may have their responses under way.
	maxResponding = 64
	// respondTime is how long an alert waits for one response.
	respondTime = 30 * time.Second
)

var (
	errBusy  = errors.New("too many responses were under way")
	errLate  = fmt.Errorf("not done after %v, and still under way", respondTime)
	errGone  = errors.New("the machine is not running any more")
	errNoSup = errors.New("it is no supervisor VM that could be replaced")
)

// targets are the VMs that a response is about: block, pause and destroy are for
// the one that completed the pattern, all others for each that took part.
func targets(a *event.Event, r pattern.Response) []string {
	switch r {
	case pattern.Record, pattern.AlertOnly:
		return nil
	case pattern.Block, pattern.Pause, pattern.Destroy:
		return []string{a.VM}
	}
	return a.Finding.VMs
}

// raise has an alert's responses carried out, and hands the alert on with what
// came of them. It does not wait. The machine may be paused already because of the
// act, else paused is nil.
func (w *Watch) raise(a event.Event, paused *pausing) {
	later := false
	for name := range strings.SplitSeq(a.Finding.Response, ",") {
		r := pattern.Response(name)
		later = later || r != pattern.Block && targets(&a, r) != nil
	}
	if !later {
		w.Alerts.Put(w.responded(a, nil))
		return
	}
	select {
	case w.responding <- struct{}{}:
	default:
		w.Alerts.Put(w.responded(a, func(string, pattern.Response) (string, error) { return "", errBusy }))
		return
	}
	w.responses.Go(func() {
		defer func() { <-w.responding }()
		w.Alerts.Put(w.responded(a, func(vm string, r pattern.Response) (string, error) {
			if r == pattern.Pause && paused != nil {
				return w.within(paused, vm, r)
			}
			return w.within(w.responder(), vm, r)
		}))
	})
}

// responded is an alert with what was done, in the order of the rule.
func (w *Watch) responded(a event.Event, respond func(vm string, r pattern.Response) (string, error)) event.Event {
	f := *a.Finding // which the engine's may share
	for name := range strings.SplitSeq(f.Response, ",") {
		r := pattern.Response(name)
		for _, vm := range targets(&a, r) {
			t := event.Taken{Response: name, VM: vm}
			if r == pattern.Block {
				t.Detail = blocked(&f.Acts[len(f.Acts)-1])
			} else if detail, err := respond(vm, r); err != nil {
				t.Failed = err.Error()
			} else {
				t.Detail = detail
			}
			f.Taken = append(f.Taken, t)
		}
	}
	a.Finding = &f
	return a
}

// blocked says what became of an act.
func blocked(act *event.Event) string {
	switch {
	case act.Kind == event.FileAct:
		return fmt.Sprintf("the %s failed with %s", act.Action, unix.ErrnoName(unix.EPERM))
	case act.Kind == event.Flow && act.Process != (event.Process{}):
		return "its flow is cut"
	case act.Kind != event.Syscall:
		return "the message was not delivered, its flow is cut"
	}
	return fmt.Sprintf("%s failed with %s", act.Call.Name, unix.ErrnoName(unix.EPERM))
}

// within carries out one response, and waits for it only so long. What comes
// later is an event of its own.
func (w *Watch) within(by Responder, vm string, r pattern.Response) (string, error) {
	type outcome struct {
		detail string
		err    error
	}
	done := make(chan outcome, 1)
	w.responses.Go(func() {
		detail, err := by.Respond(vm, r)
		done <- outcome{detail, err}
	})
	late := time.NewTimer(respondTime)
	defer late.Stop()
	select {
	case o := <-done:
		return o.detail, o.err
	case <-late.C:
	}
	w.responses.Go(func() {
		o := <-done
		text := fmt.Sprintf("%s is done now: %s", r, o.detail)
		if o.err != nil {
			text = fmt.Sprintf("%s has failed: %v", r, o.err)
		}
		w.Events.Put(event.Event{Time: time.Now().UnixNano(), Kind: event.Lifecycle, VM: vm, Message: text})
	})
	return "", errLate
}

func (w *Watch) responder() Responder {
	if w.Responder != nil {
		return w.Responder
	}
	return machines{w}
}

// Settled waits for all responses that are under way, or until ctx ends.
func (w *Watch) Settled(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		w.responses.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// machines responds by the machines that are watched.
type machines struct{ w *Watch }

func (r machines) Respond(vm string, what pattern.Response) (string, error) {
	r.w.mu.Lock()
	m := r.w.machines[vm]
	r.w.mu.Unlock()
	if m == nil || m.target.Machine == nil {
		return "", errGone
	}
	switch what {
	case pattern.Pause:
		return untilResumed, m.pause()
	case pattern.Snapshot:
		return m.snapshot(r.w.Snapshots)
	case pattern.Isolate:
		return m.isolate(), nil
	case pattern.Destroy:
		m.target.Machine.Kill()
		return "", nil
	case pattern.Mirror:
		if r.w.Mirror != nil {
			return r.w.Mirror(vm)
		}
		return "", errNoSup
	}
	return "", fmt.Errorf("%s cannot be done here", what)
}

// isolate cuts a machine off from every network. The LAN first, which no frame of its
// passes from then on; its guest is told next. Its vsock is for management and stays.
func (m *machine) isolate() string {
	var done []string
	if m.target.Port != nil {
		m.target.Port.Isolate(true)
		done = append(done, "it is cut off from the LAN")
	}
	nets := m.target.Machine.Nets()
	for _, n := range nets {
		n.SetLink(false)
	}
	if len(nets) == 0 {
		return "it has no network interface"
	}
	return strings.Join(append(done, fmt.Sprintf("the link of %d network interfaces is down", len(nets))), ", ")
}
