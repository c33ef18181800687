// Package hosting is the host's half of service separation: it does what the
// supervisor orders, and nothing that is not in its role.
//
// A [Host] knows the services that its configuration or a request has declared,
// holds their VMs and their output, keeps the records, and passes requests on to the
// supervisor that is connected. All that a supervisor can have it do is about a
// service by its name: what that runs, and what it is given, is in the declaration,
// which no supervisor can change. So one that was subverted has the services that
// there are started, stopped and lied about, within the host's limits.
//
// When a supervisor is gone, VMs and commands go on. The next one is told all that
// was recorded, and finds each VM where the last one left it. Requests wait for it:
// each has one outcome, for it is asked again unless it was decided before.
package hosting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/link"
	"warder/supervisor/services"
	"warder/supervisor/sizing"
	"warder/supervisor/verify"
)

// Machines makes the VMs of services.
type Machines interface {
	// Claim says what a service needs of the machine, or why it could not start
	// here: a file that is not there, an option that makes no sense.
	Claim(declaration.Service) (verify.Claim, error)
	// Join gives a service that was added what it has whether it runs or not, in place of
	// what its name had: its place on the LAN, and what starts it on demand. keep is told
	// its addresses when all is well; its error is Join's. After an error all is as it was.
	Join(d declaration.Service, keep func([]netip.Addr) error) error
	// Leave takes that back.
	Leave(name string)
	// Boot brings the VM of a service up to where nothing of it has run.
	Boot(context.Context, declaration.Service) (VM, error)
	verify.Meter
}

// A VM is the machine of a service.
type VM interface {
	Start(context.Context, proto.Command, control.Stdio) (Process, error)
	// Stop ends the VM: its processes get grace. Nothing of it is left when Stop
	// returns, whatever the error.
	Stop(ctx context.Context, grace time.Duration) error
	Done() <-chan struct{}
	// Use is what it has used. The guest is asked until ctx ends.
	Use(context.Context) Use
	// Serial is the last that the guest's kernel said, as it came.
	Serial() []byte
	// Ended says what became of a VM that is done, nil when it switched off.
	Ended() error

	// Sample tells how the guest fares, but for what it is let have.
	Sample(context.Context) (sizing.Sample, error)
	// Shortages has what the guest says that it is short of, as soon as it is.
	Shortages() <-chan proto.Shortage
	// Resize lets the VM have another size than it was let have. It asks: a sample
	// tells how far the guest has come.
	Resize(ctx context.Context, from, to sizing.Size) error
}

// A Process is a command in a VM.
type Process interface {
	// Wait waits for the end, and kills the command when ctx ends first.
	Wait(context.Context) (proto.Status, error)
	Signal(ctx context.Context, signal int) error
	Resize(ctx context.Context, cols, rows uint16) error
}

// A Journal remembers what was asked for, for a host that died.
type Journal interface {
	// Declared is what a request has declared, and the addresses on the LAN that it has.
	Declared(declaration.Service, []netip.Addr) error
	Removed(name string) error
	Started(name, by string) error
	Ended(name string) error
}

// Config is what a host goes by, as plain data.
type Config struct {
	Capacity verify.Capacity // of all VMs together
	Headroom uint64          // bytes of memory that stay free
	// Metered says that memory is granted only as far as the machine has it.
	Metered bool
	// Reserved is memory that is for no service.
	Reserved verify.Reserved
	// Most bounds what VMs of services can hold whatever the supervisor says.
	Most verify.Capacity
	// Policies are the text of the file PolicyFile, "" for none.
	PolicyFile, Policies string
	// Inside says that they are for the VMs of services too, which may look at
	// themselves and end themselves without.
	Inside bool
}

// A Host is that of one supervisor at a time. It is safe for concurrent use.
type Host struct {
	machines Machines
	journal  Journal // nil for none
	cfg      Config
	most     *verify.Ledger // of the VMs that there are
	events   *tape[Event]

	connecting sync.Mutex
	served     sync.WaitGroup // orders of a supervisor that was

	mu         sync.Mutex
	services   map[string]*service
	granted    map[string]verify.Claim // to VMs that are no services
	requests   map[uint64]*request     // under way
	last       uint64                  // request's number
	waiting    int                     // connections, for services to run
	supervisor *link.Conn              // nil without one
	changed    chan struct{}           // closed when supervisor or closed changes
	closed     bool
}

// service is one that is declared. What changes is guarded by the host's lock.
type service struct {
	decl   declaration.Service
	added  bool // by a request, not by the host's own configuration
	log    *tape[Line]
	record *services.Record // nil: it was never started
	vm     *held            // of its last start; nil without one
	demand demand
}

// New makes a host without services; journal may be nil.
func New(machines Machines, journal Journal, cfg Config) *Host {
	return &Host{
		machines: machines, journal: journal, cfg: cfg, most: verify.NewLedger(cfg.Most, nil, 0), events: newEvents(),
		services: make(map[string]*service), granted: make(map[string]verify.Claim), requests: make(map[uint64]*request),
		changed: make(chan struct{}),
	}
}

// Declare makes a service known that the host's own configuration declares. It is called
// before a supervisor is connected.
func (h *Host) Declare(d declaration.Service) error {
	return h.know(d, func() error { h.put(d, false); return nil })
}

// Restore makes a service known that a request has declared to a host before this one,
// and that had these addresses. It is called before a supervisor is connected.
func (h *Host) Restore(d declaration.Service, had []netip.Addr) error {
	return h.know(d, func() error {
		return h.add(d, func(has []netip.Addr) error {
			if slices.Equal(has, had) {
				return nil
			}
			return h.write(d, has)
		})
	})
}

// know makes a service known by put, for which the lock is held, if its name is free.
func (h *Host) know(d declaration.Service, put func() error) error {
	if err := h.check(d); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.services[d.Name] != nil {
		return fmt.Errorf("%w: %s is declared by the host's configuration", services.ErrState, d.Name)
	}
	return put()
}

// add makes an added service known, which has what it is to have once keep has been told
// its addresses. The caller holds the lock.
func (h *Host) add(d declaration.Service, keep func([]netip.Addr) error) error {
	if err := h.machines.Join(d, keep); err != nil {
		return err
	}
	h.put(d, true)
	return nil
}

// write puts what was declared into the journal, if there is one.
func (h *Host) write(d declaration.Service, has []netip.Addr) error {
	if h.journal == nil {
		return nil
	}
	return h.journal.Declared(d, has)
}

// check says what is wrong with a declaration.
func (h *Host) check(d declaration.Service) error {
	if err := d.Check(); err != nil {
		return err
	}
	_, err := h.machines.Claim(d)
	return err
}

// put makes a service known, in place of what had its name. The caller holds the lock.
func (h *Host) put(d declaration.Service, added bool) {
	s := &service{decl: d.WithDefaults(), added: added, log: newLog()}
	if old := h.services[d.Name]; old != nil {
		s.log = old.log
	}
	h.services[d.Name] = s
}

// find gives a service that is known, and what it is declared to be.
func (h *Host) find(name string) (*service, declaration.Service, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.services[name]; s != nil {
		return s, s.decl, nil
	}
	return nil, declaration.Service{}, fmt.Errorf("%w: %q", services.ErrUnknown, name)
}

// Known is nil for the name of a service that is declared.
func (h *Host) Known(name string) error {
	_, _, err := h.find(name)
	return err
}

// Alive returns as long as the host gets ahead, whatever its supervisor does.
func (h *Host) Alive() {
	h.mu.Lock()
	defer h.mu.Unlock()
}

// Connect has the supervisor at the other end of a connection supervise, once it has
// been told all that is known and the one before it is gone for good. Requests go to
// it from then on, until the connection ends.
func (h *Host) Connect(ctx context.Context, conn io.ReadWriteCloser) (*link.Conn, error) {
	h.connecting.Lock()
	defer h.connecting.Unlock()
	h.served.Wait()
	c := link.NewConn(conn, h.handle)
	h.served.Go(func() {
		c.Serve(context.Background()) // until the connection ends
		h.gone(c)
	})
	if err := h.handOver(ctx, c); err != nil {
		conn.Close()
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.supervisor = c
	h.tell()
	return c, nil
}

// handOver tells a supervisor all that is known.
func (h *Host) handOver(ctx context.Context, c *link.Conn) error {
	o := link.Opening{
		Capacity: h.cfg.Capacity, Headroom: h.cfg.Headroom, Metered: h.cfg.Metered, Reserved: h.cfg.Reserved,
		File: h.cfg.PolicyFile, Policies: h.cfg.Policies, Inside: h.cfg.Inside,
	}
	var known []link.Known
	h.mu.Lock()
	for _, name := range slices.Sorted(maps.Keys(h.granted)) {
		o.Granted = append(o.Granted, verify.Grant{Holder: name, Claim: h.granted[name]})
	}
	for _, name := range slices.Sorted(maps.Keys(h.services)) {
		s := h.services[name]
		k := link.Known{Service: link.Abridged(s.decl), Added: s.added, Record: s.record}
		if s.demand.users > 0 {
			k.Held = h.number()
		}
		known = append(known, k)
	}
	h.mu.Unlock()
	if err := c.Call(ctx, link.Open, o, nil); err != nil {
		return err
	}
	for _, k := range known {
		if err := c.Call(ctx, link.Declare, k, nil); err != nil {
			return fmt.Errorf("service %s: %w", k.Service.Name, err)
		}
	}
	return nil
}

// gone forgets a supervisor whose connection has ended.
func (h *Host) gone(c *link.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.supervisor == c {
		h.supervisor = nil
		h.tell()
	}
}

// tell has all see what has changed who wait for it. The caller holds the lock.
func (h *Host) tell() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// StopTime is how long the services may take to stop, and a supervisor to be made
// that has them do it.
func (h *Host) StopTime() time.Duration {
	const another = 5 * time.Minute
	h.mu.Lock()
	defer h.mu.Unlock()
	most := time.Duration(0)
	for _, s := range h.services {
		most = max(most, time.Duration(s.decl.StopTimeout))
	}
	return most + killAfter + another
}

// Close has the supervisor stop all services, each within its own time, and takes no
// requests from then on. What the supervisor leaves, or would have stopped if there
// were one, is stopped when ctx has ended. What the journal says of services stays: a
// host that comes back starts them again.
func (h *Host) Close(ctx context.Context) error {
	err := h.ask(ctx, link.Close, nil, nil)
	h.mu.Lock()
	h.closed = true
	h.tell()
	var left []*held
	for _, s := range h.services {
		if s.vm != nil {
			left = append(left, s.vm)
		}
	}
	h.mu.Unlock()
	var all sync.WaitGroup
	for _, v := range left {
		all.Go(func() { v.destroy(context.Background(), leftoverGrace, killAfter) })
	}
	all.Wait()
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("the supervisor has not stopped the services in time: they were ended without it")
	}
	return err
}
