package trap

import (
	"bytes"
	"errors"
	"fmt"

	"warder/vmm"
)

// The guest's own tracer, its kprobes and live patches change the same NOPs. Each of
// them first calls tracerBegins and at last tracerEnds (kernel/trace/ftrace.c,
// ftrace_run_update_code). In between our hooks are off, so that it finds what it
// expects. What it leaves there, a call of its own or a NOP, is then hooked again.
const (
	tracerBegins = "ftrace_arch_code_modify_prepare"
	tracerEnds   = "ftrace_arch_code_modify_post_process"
)

// tracer adds the places at which the guest's tracer begins and ends.
func (p *planner) tracer() error {
	begins, err := p.entry(tracerBegins)
	if err != nil {
		return err
	}
	ends, err := p.entry(tracerEnds)
	if err != nil {
		return err
	}
	p.plan.begins, p.plan.ends = begins, ends
	return nil
}

// aside has the vCPU stand still until the hooks have been taken off, or put on
// again, which needs all vCPUs to stand.
func (h *hooks) aside(do func() error, through vmm.TrapAction) vmm.TrapAction {
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.mu.Lock()
		defer h.mu.Unlock()
		if err := h.m.WithVCPUsStopped(do); err != nil {
			h.notice(fmt.Sprintf("hooks and the guest's own tracer: %v", err))
		}
	}()
	return vmm.Stand(done, func() vmm.TrapAction { return through })
}

// notice tells all clients.
func (h *hooks) notice(message string) { notice(h.clients, message) }

func notice(clients []*Traps, message string) {
	for _, t := range clients {
		if t.cfg.Notice != nil {
			t.cfg.Notice(message)
		}
	}
}

// stepAside takes the hooks off, for the guest's tracer to work. The machine
// stands still.
func (h *hooks) stepAside() error {
	a := h.now.Load()
	if a == nil || h.away {
		return nil
	}
	v, _, err := h.locate(nil)
	if err != nil {
		return err
	}
	h.away = true
	h.notice("the guest's own tracer changes functions: the hooks are off until it is done")
	var errs []error
	for _, s := range a.sites {
		if s != a.begins && s != a.ends {
			errs = append(errs, s.giveBack(v))
		}
	}
	return errors.Join(errs...)
}

// stepBack puts the hooks on again, over what the guest's tracer has left there.
// The machine stands still.
func (h *hooks) stepBack() error {
	a := h.now.Load()
	if a == nil || !h.away {
		return nil
	}
	v, guest, err := h.locate(nil)
	if err != nil {
		return err
	}
	h.away = false
	var errs []error
	for _, s := range a.sites {
		if s == a.begins || s == a.ends {
			continue
		}
		now := make([]byte, len(s.hook))
		if err := v.ReadAt(now, s.at); err != nil {
			errs = append(errs, err)
			continue
		}
		does, ok := understood(guest.Arch(), now, s.at)
		if !ok || does.length != len(s.hook) {
			errs = append(errs, fmt.Errorf("%s begins with % x now and is not hooked any more", s.name, now))
			continue
		}
		// The vCPUs look at this when they have run into the hook, not before.
		s.old, s.does = bytes.Clone(now), does
		errs = append(errs, writeCode(v, s.at, s.hook))
	}
	return errors.Join(errs...)
}
