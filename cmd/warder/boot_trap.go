package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/secmon/trap"
	"warder/secmon/watch"
	"warder/vmm"
)

// bootTraps are the calls that warder boot traps, for nobody.
type bootTraps struct {
	detail string // "" for no traps
	calls  []string
}

// trapRules is the detail of those who want what the rules need.
const trapRules = "rules"

// trapDetails are how much of a call is read.
var trapDetails = map[string]trap.Config{
	"pass":   {},
	"entry":  {},
	"all":    {Process: true, Arguments: true, Data: 32},
	"result": {Result: func(event.Event) {}},
}

func parseTrap(s string) (bootTraps, error) {
	if s == "" || s == trapRules {
		return bootTraps{detail: s}, nil
	}
	detail, calls, ok := strings.Cut(s, ":")
	if _, known := trapDetails[detail]; !ok || !known {
		return bootTraps{}, fmt.Errorf("--trap %s: give pass:CALL,..., entry:CALL,..., all:CALL,..., result:CALL,... or rules", s)
	}
	t := bootTraps{detail, strings.Split(calls, ",")}
	for _, c := range t.calls {
		if !trap.Known(c) {
			return bootTraps{}, fmt.Errorf("--trap %s: there is no system call %q", s, c)
		}
	}
	return t, nil
}

// arm hooks the calls once the guest's kernel is up. What it gives says, when
// the machine has ended, how many were trapped, or why none could be.
func (b bootTraps) arm(ctx context.Context, m *vmm.Machine, cfg vmm.Config) (trapped func() error) {
	if b.detail == "" {
		return func() error { return nil }
	}
	ctx, cancel := context.WithCancel(ctx)
	armed := make(chan error, 1)
	go func() { armed <- b.hook(ctx, m, cfg) }()
	return func() error {
		cancel()
		if err := <-armed; err != nil {
			return fmt.Errorf("--trap: %w", err)
		}
		fmt.Fprintf(os.Stderr, "%s: %d calls were trapped\n", cfg.Name, m.Stats().Traps)
		return nil
	}
}

func (b bootTraps) hook(ctx context.Context, m *vmm.Machine, cfg vmm.Config) error {
	if b.detail == trapRules {
		rules, err := new(rulesFlags).library()
		if err != nil {
			return err
		}
		w, err := watch.New(rules)
		if err != nil {
			return err
		}
		return w.Attach(ctx, watch.Target{Name: cfg.Name, Machine: m, Kernel: cfg.Kernel})
	}
	k, err := introspect.OpenWhole(cfg.Kernel)
	if err != nil {
		return err
	}
	c := trapDetails[b.detail]
	c.VM, c.Kernel, c.Calls = cfg.Name, k, b.calls
	c.Sink = func(event.Event) unix.Errno { return 0 }
	if _, err := trap.Arm(ctx, trap.Of(m), c); err != nil || b.detail != "pass" {
		return err
	}
	// The hooks stay, and nobody looks at what runs into them: they are over NOPs.
	return m.SetTrap(func(*vmm.VCPU) vmm.TrapAction { return vmm.Pass })
}
