package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"warder/devices/virtio/fs"
	"warder/secmon/event"
	"warder/secmon/lan/monitor"
	"warder/secmon/pattern"
	"warder/secmon/share"
	"warder/secmon/watch"
	"warder/supervisor"
	"warder/supervisor/api"
	"warder/supervisor/declaration"
	"warder/supervisor/hosting"
	"warder/supervisor/journal"
	"warder/supervisor/mirror"
	"warder/supervisor/network"
	"warder/supervisor/rootfs"
	"warder/vmm/cgroup"
)

// host is several service VMs in this process under one watch.
type host struct {
	watch  *watch.Watch
	vms    map[string]*supervisor.ServiceVM // of the configuration's list
	named  map[string]bool                  // all that are to be in vms
	kernel string
	weight int // of VMs that give none
	log    *slog.Logger

	services   *hosting.Host
	supervisor *mirror.Keeper   // nil until there is one
	journal    *journal.Journal // nil for none
	mu         sync.Mutex
	running    map[string]*supervisor.ServiceVM // all

	images func() (*rootfs.Store, error)
	vault  *vault

	network  *network.Network // nil for none
	monitor  *monitor.Monitor
	shares   *share.Monitor
	socket   *controlSocket
	doors    *doors
	demand   *holder
	kept     *keeper
	watching context.CancelFunc // ends the watch's own work
	runner   sync.WaitGroup
	reading  context.CancelFunc // ends the readers of the watch's queues
	readers  sync.WaitGroup

	monitoring context.CancelFunc // ends what the monitors do by themselves
	monitors   sync.WaitGroup

	keeping context.CancelFunc // ends what the host does by the clock
	upkeep  sync.WaitGroup
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
	log := newLineLog(os.Stderr)
	if err := cfg.shareOut(log); err != nil {
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
	h := &host{
		watch: w, kernel: kernel, weight: cfg.weight, log: log, kept: kept, shares: watchShares(w), demand: newHolder(),
		vms: make(map[string]*supervisor.ServiceVM), named: make(map[string]bool), running: make(map[string]*supervisor.ServiceVM),
	}
	h.doors = newDoors(h.leadTo, log)
	added, err := h.openJournal(cfg.State)
	if err == nil {
		h.network, h.monitor, err = cfg.startLAN(w, h.demand, added, log)
	}
	if err != nil {
		kept.close()
		return nil, errors.Join(err, h.closeJournal())
	}
	h.socket = openControlSocket()
	h.images = sync.OnceValues(func() (*rootfs.Store, error) {
		return rootfs.Open(rootfs.Options{Limit: int64(cfg.Limits.images)})
	})
	h.vault = cfg.Secrets.open()
	w.Mirror = h.mirror
	if err := h.openServices(cfg, added); err != nil {
		h.doors.close()
		h.socket.close()
		kept.close()
		return nil, errors.Join(err, h.network.Close(), h.closeJournal())
	}
	h.socket.serveLAN(h.network, h.monitor)
	h.monitorVMs()
	h.read(out)
	h.tellRules(rules.now, left)
	h.keepUp(rules, cfg.Patterns.every)
	err = h.startSupervisor(ctx, cfg.Supervisor)
	if err == nil {
		err = h.offer(ctx, cfg)
	}
	if err != nil {
		return nil, errors.Join(err, h.stop())
	}
	starting, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, v := range cfg.VMs {
		all.Go(func() {
			// They boot at once and share the host's CPUs.
			vm, err := h.start(starting, v, bootTime*time.Duration(len(cfg.VMs)))
			if err == nil {
				err = grow(vm, v.machine())
			}
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
func (h *host) start(ctx context.Context, v hostVM, patience time.Duration) (*supervisor.ServiceVM, error) {
	spec := v.machine()
	spec.Kernel, spec.BootTimeout, spec.Log = h.kernel, patience, h.log
	spec.VsockWatcher = mirror.Guard(h.monitor.Vsock(v.Name), func(tries uint64) { h.dialled(v.Name, tries) })
	spec.ShareWatcher = func(dir string) (fs.Watcher, error) { return h.shares.Watch(v.Name, dir) }
	spec.CPUWeight = cmp.Or(spec.CPUWeight, h.weight)
	if n, ok := h.network.Interface(v.Name); ok {
		spec.Nets = append(slices.Clone(spec.Nets), n)
	}
	lease, err := h.image(ctx, v)
	if err != nil {
		return nil, err
	}
	spec.Root = rootOf(lease, v.Overlay)
	spec.Secrets, spec.Secret = v.Secrets, h.secretFor(v)
	vm, err := supervisor.StartVM(ctx, spec)
	if lease.Close(); err != nil { // the machine has it open
		return nil, err
	}
	h.mu.Lock()
	h.running[v.Name] = vm
	h.mu.Unlock()
	h.socket.add(api.Service(vm))
	return vm, h.watch.Attach(ctx, watch.Target{
		Name: v.Name, Machine: vm.Machine(), Kernel: h.kernel, Shares: vm.Shares(), Port: h.network.Port(v.Name),
	})
}

// image makes the root file system of a VM, nil for one without an image.
func (h *host) image(ctx context.Context, v hostVM) (*rootfs.Lease, error) {
	if v.Image == "" {
		return nil, nil
	}
	image, err := declaration.ParseImage(v.Image)
	if err != nil {
		return nil, err
	}
	store, err := h.images()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	lease, err := store.Get(ctx, image)
	if err == nil && lease.Made.After(began) {
		h.log.Info("an image was made", "vm", v.Name, "image", v.Image, "digest", lease.Digest[:12], "MiB", lease.Size>>20, "took", time.Since(began).Round(time.Millisecond))
	}
	return lease, err
}

// end stops a VM in good order and forgets it.
func (h *host) end(ctx context.Context, vm *supervisor.ServiceVM, grace time.Duration) error {
	name := vm.Name()
	h.socket.remove(name)
	err := vm.Stop(ctx, grace)
	h.watch.Forget(name)
	h.mu.Lock()
	delete(h.running, name)
	h.mu.Unlock()
	return err
}

// alertDelay is how long an alert may wait for events to be printed before it.
const alertDelay = 100 * time.Millisecond

// read hands out what the watch reports until the host stops.
func (h *host) read(out *printer) {
	ctx, cancel := context.WithCancel(context.Background())
	h.reading = cancel
	running, stop := context.WithCancel(context.Background())
	h.watching = stop
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
		_ = h.services.Events(ctx, "", true, func(e hosting.Event) error {
			h.watch.Events.Put(lifecycle(e))
			return nil
		})
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

// keepUp keeps the rules up to date, and the machine clean, until the host stops.
func (h *host) keepUp(l *library, every time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	h.keeping = cancel
	if l.scheduled {
		h.upkeep.Go(func() { l.keepUpdated(ctx, every, h.watch) })
	}
	h.upkeep.Go(func() { h.reclaim(ctx) })
}

// reclaimEvery is the time from one look for what killed hosts have left to the next.
const reclaimEvery = 20 * time.Second

// reclaim removes the groups of processes that are gone until ctx ends. Those of a host
// that was killed moments ago can still be in use.
func (h *host) reclaim(ctx context.Context) {
	again := time.NewTicker(reclaimEvery)
	defer again.Stop()
	for {
		if n, err := cgroup.Sweep(); n > 0 || err != nil {
			h.log.Debug("groups of processes that are gone", "removed", n, "err", err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// stop stops all VMs in good order and prints what is left to print.
func (h *host) stop() error {
	h.keeping()
	h.upkeep.Wait()
	h.stopServices()
	h.doors.close()
	// They stop at once and share the host's CPUs.
	ctx, cancel := context.WithTimeout(context.Background(), stopTime*time.Duration(1+len(h.vms)))
	defer cancel()
	var mu sync.Mutex
	var errs []error
	var all sync.WaitGroup
	for name, vm := range h.vms {
		all.Go(func() {
			err := h.end(ctx, vm, leftoverGrace)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("vm %s: %w", name, err))
			}
		})
	}
	all.Wait()
	if h.supervisor != nil {
		h.supervisor.Close()
	}
	h.socket.close()
	errs = append(errs, h.network.Close())
	h.monitoring()
	h.monitors.Wait()
	h.drain()
	return errors.Join(append(errs, h.closeJournal())...)
}

// drainTime is how long readers get for what is still in the queues.
const drainTime = 2 * time.Second

func (h *host) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	h.watching()
	h.runner.Wait()
	h.watch.Settled(ctx)
	h.watch.Events.Drained(ctx)
	h.watch.Alerts.Drained(ctx)
	h.reading()
	h.readers.Wait()
	h.kept.close()
}
