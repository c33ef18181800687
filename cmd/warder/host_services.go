package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/secmon/event"
	"warder/supervisor"
	"warder/supervisor/declaration"
	"warder/supervisor/hosting"
	"warder/supervisor/journal"
	"warder/supervisor/systemd"
	"warder/supervisor/verify"
	"warder/vmm"
	"warder/vmm/hostinfo"
)

// openJournal opens the journal in a directory, and gives the services that were added.
// Without a directory there is none.
func (h *host) openJournal(dir string) (added []journal.Service, err error) {
	if dir == "" {
		return nil, nil
	}
	if h.journal, err = journal.Open(dir); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	added, err = h.journal.Services()
	h.notAsBefore(err)
	return added, nil
}

// openServices makes the services of the configuration known, and those that were added.
func (h *host) openServices(cfg hostConfig, added []journal.Service) error {
	for _, v := range cfg.VMs {
		h.named[v.Name] = true
	}
	own, err := cfg.hosting()
	if err != nil {
		return err
	}
	var written hosting.Journal
	if h.journal != nil {
		written = h.journal
	}
	h.services = hosting.New(h, written, own)
	for _, v := range cfg.Services {
		v.Resolve(cfg.base)
		if err := h.services.Declare(v.Service); err != nil {
			return fmt.Errorf("service %s: %w", v.Name, err)
		}
		if _, err := h.doors.open(v.Service); err != nil {
			return fmt.Errorf("service %s: %w", v.Name, err)
		}
	}
	for _, s := range added {
		if e := h.services.Restore(s.Service, s.Addresses); e != nil {
			h.notAsBefore(fmt.Errorf("service %s: %w", s.Name, e))
		}
	}
	return nil
}

// closeJournal lets go of the journal, if there is one.
func (h *host) closeJournal() error {
	if h.journal == nil {
		return nil
	}
	return h.journal.Close()
}

// notAsBefore says what of the last host could not be taken up, which is no reason for
// this one not to start.
func (h *host) notAsBefore(err error) {
	if err != nil {
		h.log.Warn("not all is as it was before the last host ended", "because", err)
	}
}

// offer has what the VMs of the configuration need committed, starts again what ran
// when the last host was killed, and makes the services known to who asks.
func (h *host) offer(ctx context.Context, cfg hostConfig) error {
	for _, v := range cfg.VMs {
		claim, err := claim(v)
		if err == nil {
			err = h.services.Grant(ctx, v.Name, claim)
		}
		if err != nil {
			return fmt.Errorf("vm %s: %w", v.Name, err)
		}
	}
	if h.socket.server != nil {
		h.socket.server.OpenToVMs() // those that start from now on
	}
	h.demand.serve(h)
	if h.journal != nil {
		h.resume(ctx)
	}
	switch {
	case h.socket.server != nil:
		h.socket.server.HostServices(h.services)
		return h.share(cfg.Access)
	case cfg.serves():
		return errors.New("there are services, and no control socket to ask for them")
	}
	return nil
}

// resume starts what the journal says.
func (h *host) resume(ctx context.Context) {
	running, err := h.journal.Running()
	for name, start := range running {
		if e := h.services.Resume(ctx, name, start.By); e != nil {
			err = errors.Join(err, fmt.Errorf("service %s: %w", name, e))
		}
	}
	h.notAsBefore(err)
}

// stopServices has all services stop, each within its own time.
func (h *host) stopServices() {
	ctx, cancel := context.WithTimeout(context.Background(), h.services.StopTime())
	defer cancel()
	if h.supervisor == nil {
		cancel() // there is none yet that could have started one
	}
	if err := h.services.Close(ctx); err != nil && h.supervisor != nil {
		h.log.Warn("services were not stopped in good order", "because", err)
	}
}

// announce tells the service manager that the host is ready, and from then on that
// it is alive. The manager is told of its end by what is returned, which lets it
// take its time.
func (h *host) announce(ctx context.Context) (stopping func()) {
	tell := func(err error) {
		if err != nil {
			h.log.Warn("the service manager does not know how this host fares", "because", err)
		}
	}
	tell(systemd.Notify(systemd.Ready))
	ctx, cancel := context.WithCancel(ctx)
	var pinging sync.WaitGroup
	pinging.Go(func() {
		tell(systemd.Watchdog(ctx, h.services.Alive))
	})
	return func() {
		cancel()
		pinging.Wait()
		tell(systemd.Notify(systemd.Stopping))
	}
}

// serves tells whether the host is there for services, beside its VMs.
func (c *hostConfig) serves() bool { return len(c.Services) > 0 || c.State != "" }

// lifecycle is what became of a service as an event of the host's.
func lifecycle(e hosting.Event) event.Event {
	if e.Sized != nil {
		return event.Event{Time: e.Time.UnixNano(), Kind: event.Lifecycle, VM: e.Service, Action: "service-sized", Message: happened(e)}
	}
	text := string(e.State)
	if e.Why != "" {
		text += ": " + e.Why
	}
	return event.Event{Time: e.Time.UnixNano(), Kind: event.Lifecycle, VM: e.Service, Action: "service-" + string(e.State), Message: text}
}

// Measure tells how much memory each VM has taken, and how much this machine has for
// more then, in bytes.
func (h *host) Measure() (used map[string]uint64, available uint64) {
	used = make(map[string]uint64)
	h.mu.Lock()
	for name, vm := range h.running {
		used[name] = vm.Machine().MemoryStats().Used
	}
	h.mu.Unlock()
	return used, hostinfo.ReadMemory().Available
}

// declared is a service whose paths are absolute as a VM to start.
func declared(d declaration.Service) (hostVM, error) {
	v := hostVM{Service: d, sized: d.Elastic()}
	return v, attachTo(&v.spec, d.Attachments, "/")
}

// Claim is what a service needs of this machine.
func (h *host) Claim(d declaration.Service) (verify.Claim, error) {
	if h.named[d.Name] {
		return verify.Claim{}, fmt.Errorf("%s is the name of one of the host's vms", d.Name)
	}
	v, err := declared(d)
	if err == nil {
		err = errors.Join(checkImage(d.Image), h.vault.missing(d.Secrets))
	}
	if err != nil {
		return verify.Claim{}, err
	}
	c, err := claim(v)
	if d.Elastic() { // the rest is granted as it is needed
		c.VCPUs, c.Memory = cmp.Or(d.CPUsMin, c.VCPUs), cmp.Or(uint64(d.Memory.Start), vmm.DefaultMemory)
	}
	return c, err
}

// Boot brings a service's VM up to where nothing of the service has run.
func (h *host) Boot(ctx context.Context, d declaration.Service) (hosting.VM, error) {
	v, err := declared(d)
	if err != nil {
		return nil, err
	}
	vm, err := h.start(ctx, v, bootTime)
	if err == nil {
		err = h.listenTo(d, serviceVM{vm, h})
	}
	if err == nil {
		return serviceVM{vm, h}, nil
	}
	if vm != nil {
		soon, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		err = errors.Join(err, h.end(soon, vm, 0))
	}
	return nil, err
}

// serviceVM is the VM of a service on this host.
type serviceVM struct {
	*supervisor.ServiceVM
	host *host
}

func (vm serviceVM) Start(ctx context.Context, cmd proto.Command, stdio control.Stdio) (hosting.Process, error) {
	p, err := vm.ServiceVM.Start(ctx, cmd, stdio)
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (vm serviceVM) Stop(ctx context.Context, grace time.Duration) error {
	return vm.host.end(ctx, vm.ServiceVM, grace)
}

// Ended says what became of the VM, nil when it switched itself off.
func (vm serviceVM) Ended() error {
	if e := vm.ServiceVM.Ended(); e.Exit.Reason != vmm.PowerOff {
		return e
	}
	return nil
}

// claim is what a VM needs of the machine. A file that it names has to be there.
func claim(v hostVM) (verify.Claim, error) {
	memory := max(cmp.Or(uint64(v.Memory.Start), vmm.DefaultMemory), uint64(v.Memory.Most))
	c := verify.Claim{VCPUs: max(v.CPUs, 1), Memory: memory}
	add := func(kind, name string, shared bool) {
		t := verify.Thing{Kind: kind, Name: name, Shared: shared}
		if !shared || !slices.Contains(c.Things, t) { // a VM may have a shared one twice
			c.Things = append(c.Things, t)
		}
	}
	file := func(path string, shared bool) error {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			_, err = os.Stat(real)
		}
		if err != nil {
			return err
		}
		add("disk", real, shared)
		return nil
	}
	for _, d := range v.spec.Disks {
		if err := file(d.Path, d.ReadOnly); err != nil {
			return c, fmt.Errorf("disk: %w", err)
		}
	}
	if i, err := declaration.ParseImage(v.Image); err == nil && i.Kind == declaration.ImageDisk {
		if err := file(i.Name, true); err != nil {
			return c, fmt.Errorf("image: %w", err)
		}
	}
	if v.Overlay != "" {
		if err := file(v.Overlay, false); err != nil {
			return c, fmt.Errorf("overlay: %w", err)
		}
	}
	for _, p := range v.spec.Pmems {
		if err := file(p.Path, !p.Writable); err != nil {
			return c, fmt.Errorf("pmem: %w", err)
		}
	}
	for _, n := range v.spec.Nets {
		if n.TAP != "" {
			add("tap", n.TAP, false)
		}
		for _, a := range n.Addresses {
			add("address", a.Addr().String(), false)
		}
	}
	for _, p := range v.spec.Ports {
		add("socket", p.Socket, false)
	}
	return c, nil
}
