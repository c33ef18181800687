package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"warder/secmon/event"
	"warder/secmon/pattern"
	"warder/secmon/watch"
	"warder/supervisor"
	"warder/supervisor/api"
	"warder/vmm"
)

// host is several service VMs in this process under one watch.
type host struct {
	watch *watch.Watch
	vms   map[string]*supervisor.ServiceVM

	socket  *controlSocket
	kept    *keeper
	running context.CancelFunc // ends the watch's own work
	runner  sync.WaitGroup
	reading context.CancelFunc // ends the readers of the watch's queues
	readers sync.WaitGroup

	updating context.CancelFunc // ends the updates of rules
	updates  sync.WaitGroup
}

// bootTime is how long one VM may take to come up where the host's KVM is
// itself emulated.
const bootTime = 2 * time.Minute

// startHost starts all VMs of a configuration and arms their traps. When one
// fails, the others are given up at once and none is left. What happens is
// handed to out.
func startHost(ctx context.Context, cfg hostConfig, out *printer) (*host, error) {
	rules, left, err := cfg.openLibrary()
	if err != nil {
		return nil, err
	}
	kernel, err := cfg.Kernel.path()
	if err != nil {
		return nil, err
	}
	if err := cfg.shareOut(newLineLog(os.Stderr)); err != nil {
		return nil, err
	}
	w, err := watch.New(rules.now)
	if err != nil {
		return nil, err
	}
	if cfg.Snapshots != "" {
		if err := os.MkdirAll(cfg.Snapshots, 0o700); err != nil {
			return nil, fmt.Errorf("snapshots: %w", err)
		}
	}
	w.Snapshots = cfg.Snapshots
	kept, err := keepEvents(cfg.Store)
	if err != nil {
		return nil, err
	}
	h := &host{watch: w, socket: openControlSocket(), kept: kept, vms: make(map[string]*supervisor.ServiceVM)}
	h.read(out)
	h.tellRules(rules.now, left)
	h.update(rules, cfg.Patterns.every)
	starting, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, v := range cfg.VMs {
		all.Go(func() {
			// They boot at once and share the host's CPUs.
			vm, err := h.start(starting, v, kernel, bootTime*time.Duration(len(cfg.VMs)))
			if err != nil {
				giveUp(fmt.Errorf("vm %s: %w", v.Name, err)) // the first counts
			}
			mu.Lock()
			defer mu.Unlock()
			if vm != nil {
				h.vms[v.Name] = vm
			}
		})
	}
	all.Wait()
	if err := context.Cause(starting); err != nil {
		return nil, errors.Join(err, h.stop())
	}
	return h, nil
}

// start brings a VM up to where its traps are armed and nothing of the service
// has run.
func (h *host) start(ctx context.Context, v hostVM, kernel string, patience time.Duration) (*supervisor.ServiceVM, error) {
	spec := v.spec // with what is attached
	spec.Name, spec.CPUs, spec.Kernel = v.Name, v.CPUs, kernel
	spec.Memory, spec.MemoryMax, spec.Watchdog = uint64(v.memory.start), uint64(v.memory.most), vmm.WatchdogAction(v.Watchdog)
	spec.CPUWeight, spec.CPUMax = v.CPUWeight, v.CPUMax
	spec.BootTimeout, spec.Log = patience, newLineLog(os.Stderr)
	vm, err := supervisor.StartVM(ctx, spec)
	if err != nil {
		return nil, err
	}
	h.socket.add(api.Service(vm))
	if err := grow(vm, spec); err != nil {
		return vm, err
	}
	return vm, h.watch.Attach(ctx, watch.Target{Name: v.Name, Machine: vm.Machine(), Kernel: kernel, Shares: vm.Shares()})
}

// alertDelay is how long an alert may wait for events to be printed before it.
const alertDelay = 100 * time.Millisecond

// read hands out what the watch reports until the host stops.
func (h *host) read(out *printer) {
	ctx, cancel := context.WithCancel(context.Background())
	h.reading = cancel
	running, stop := context.WithCancel(context.Background())
	h.running = stop
	h.runner.Go(func() { h.watch.Run(running) })
	h.readers.Go(func() {
		for {
			e, err := h.watch.Events.Next(ctx)
			if err != nil {
				return
			}
			h.kept.add(&e)
			out.event(e)
		}
	})
	h.readers.Go(func() {
		for {
			e, err := h.watch.Alerts.Next(ctx)
			if err != nil {
				return
			}
			// The events that led to it come first, unless there are too many.
			soon, cancel := context.WithTimeout(ctx, alertDelay)
			h.watch.Events.Drained(soon)
			cancel()
			h.kept.add(&e)
			if e.Finding == nil || e.Finding.Response != string(pattern.Record) {
				out.alert(e)
			}
		}
	})
}

// tellRules says by events which rules are in force, and what is wrong with them.
func (h *host) tellRules(l *pattern.Library, left []error) {
	tell := func(action, message string) {
		h.watch.Events.Put(event.Event{Time: time.Now().UnixNano(), Kind: event.Host, Action: action, Message: message})
	}
	for _, err := range left {
		tell(rulesRefused, fmt.Sprintf("%v; it is left out", err))
	}
	tell(rulesInForce, fmt.Sprintf("in force: %s%s", count(uint64(len(l.Rules)), "rule"), unseen(l)))
}

// update keeps the rules up to date until the host stops.
func (h *host) update(l *library, every time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	h.updating = cancel
	if l.scheduled {
		h.updates.Go(func() { l.keepUpdated(ctx, every, h.watch) })
	}
}

// stop stops all VMs in good order and prints what is left to print.
func (h *host) stop() error {
	h.updating()
	h.updates.Wait()
	// They stop at once and share the host's CPUs.
	ctx, cancel := context.WithTimeout(context.Background(), stopTime*time.Duration(1+len(h.vms)))
	defer cancel()
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	for name, vm := range h.vms {
		all.Go(func() {
			h.socket.remove(name)
			err := vm.Stop(ctx, leftoverGrace)
			h.watch.Forget(name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("vm %s: %w", name, err))
			}
		})
	}
	all.Wait()
	h.socket.close()
	h.drain()
	return errors.Join(errs...)
}

// drainTime is how long readers get for what is still in the queues.
const drainTime = 2 * time.Second

func (h *host) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	h.running()
	h.runner.Wait()
	h.watch.Settled(ctx)
	h.watch.Events.Drained(ctx)
	h.watch.Alerts.Drained(ctx)
	h.reading()
	h.readers.Wait()
	h.kept.close()
}
