package lan

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

// PortConfig is a port of a switch and what was assigned to it.
type PortConfig struct {
	Name string // in rules
	// VLAN is the one that the port is in without a tag, 0 for none.
	VLAN uint16
	// Trunk are the VLANs that it is in with a tag.
	Trunk []uint16
	// MAC and Addresses are those of what is plugged in. It may also use the
	// link-local IPv6 address that belongs to MAC.
	MAC       net.MAC
	Addresses []netip.Addr
	// Uplink is a port with a network behind it: it has whatever addresses no other
	// port has. Its stations are learned.
	Uplink bool
	// Trusted is a port of warder's own: rules are not for it, and it may send from
	// all addresses that no other port has.
	Trusted bool
	// Isolated ports have nothing to do with each other, whatever the rules say.
	Isolated bool
	// Mirror has the port get a copy, with the tag of their VLAN, of the frames that
	// ports of these names send or are sent, or all ports do (Everybody). It sends
	// nothing; what it has no room for is lost to it.
	Mirror []string
	// Rate is how many bytes it may send a second, 0 for any number.
	Rate uint64
	// Wake has the port sleep. It is called, and does not wait, when by begins a conversation
	// with p that the rules allow, once until p is told to sleep again. The conversation
	// waits until p is told that it is awake. Meanwhile the switch answers questions for
	// p's addresses. It is nil for a port that does not sleep.
	Wake func(p, by *Port)
	// Priority is from 0 to MaxPriority: what is sent by a port of a higher one goes
	// first where frames wait.
	Priority int
}

// MaxPriority is the highest priority of a port.
const MaxPriority = 2

func (c *PortConfig) validate() error {
	switch {
	case c.Name == "" || c.Name == Everybody:
		return errors.New("give it a name")
	case len(c.Mirror) > 0:
		return nil
	case c.VLAN == 0 && len(c.Trunk) == 0:
		return errors.New("it is in no VLAN: give it one")
	case c.VLAN > MaxVLAN:
		return fmt.Errorf("VLAN %d: give 1 to %d", c.VLAN, MaxVLAN)
	case !c.Uplink && !c.MAC.Unicast():
		return fmt.Errorf("MAC address %v: give one of a single interface, the first byte even", c.MAC)
	case c.Priority < 0 || c.Priority > MaxPriority:
		return fmt.Errorf("priority %d: give 0 to %d", c.Priority, MaxPriority)
	}
	for _, v := range c.Trunk {
		if v < 1 || v > MaxVLAN || v == c.VLAN {
			return fmt.Errorf("VLAN %d: give 1 to %d, each once", v, MaxVLAN)
		}
	}
	for _, a := range c.Addresses {
		if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Is4In6() || a.Zone() != "" {
			return fmt.Errorf("address %v: give one of a single interface", a)
		}
	}
	return nil
}

// A Port is where a network device is plugged in. It is a [net.Port].
type Port struct {
	sw    *Switch
	id    int
	slot  int           // a number that no other port has now, below MaxPorts
	cfg   PortConfig    // never changes
	addrs []packet.Addr // its own, the link-local one among them
	trunk map[uint16]bool

	isolated atomic.Bool
	diverted atomic.Pointer[Port] // to a mirror port, nil if not
	rate     bucket
	told     bucket       // how much the switch says to it of its own
	began    atomic.Int64 // when its VM's driver started last
	door     *door        // nil if it does not sleep
	counters counters
	waiting  atomic.Int32 // frames of its VM
	pieces   pieces
	receiver atomic.Pointer[net.Receiver]
	lines    [net.MaxPairs]line // to its VM

	mu    sync.Mutex
	spare *transit
}

var _ net.Port = (*Port)(nil)

func newPort(s *Switch, id int, cfg PortConfig) *Port {
	cfg.Trunk, cfg.Addresses, cfg.Mirror = slices.Clone(cfg.Trunk), slices.Clone(cfg.Addresses), slices.Clone(cfg.Mirror)
	p := &Port{sw: s, id: id, cfg: cfg, trunk: make(map[uint16]bool)}
	if !cfg.Uplink && !p.isMirror() {
		p.addrs = append(p.addrs, linkLocal(cfg.MAC))
	}
	for _, a := range cfg.Addresses {
		p.addrs = append(p.addrs, packet.AddrOf(a))
	}
	for _, v := range cfg.Trunk {
		p.trunk[v] = true
	}
	for i := range p.lines {
		p.lines[i].port, p.lines[i].queue = p, i
	}
	p.SetRate(cfg.Rate)
	p.told.set(tellings)
	if cfg.Wake != nil {
		p.door = &door{port: p}
	}
	return p
}

// Name is the port's name.
func (p *Port) Name() string { return p.cfg.Name }

// ID is a number that no other port of the switch has or had, from 1 on.
func (p *Port) ID() int { return p.id }

// Config is what the port was made with.
func (p *Port) Config() PortConfig { return p.cfg }

// VLANs are those that the port is in.
func (p *Port) VLANs() []uint16 {
	if p.cfg.VLAN == 0 {
		return p.cfg.Trunk
	}
	return append([]uint16{p.cfg.VLAN}, p.cfg.Trunk...)
}

func (p *Port) isMirror() bool { return len(p.cfg.Mirror) > 0 }

// mirrors reports whether the port gets copies of what one port sends another, which is
// nil for several.
func (p *Port) mirrors(from, to *Port) bool {
	return slices.ContainsFunc(p.cfg.Mirror, func(name string) bool {
		return name == Everybody || name == from.cfg.Name || to != nil && name == to.cfg.Name
	})
}

// owner is the port in the table of flows.
func (p *Port) owner() int32 { return int32(p.slot) }

func (p *Port) in(vlan uint16) bool { return vlan == p.cfg.VLAN && vlan != 0 || p.trunk[vlan] }

// SetRate changes how many bytes the port may send a second, 0 for any number.
func (p *Port) SetRate(bytes uint64) { p.rate.set(bytes) }

// Isolate cuts the port off, or puts it back. When it returns nothing that the port's
// VM has sent reaches anybody any more, and nothing reaches it.
func (p *Port) Isolate(cut bool) {
	p.isolated.Store(cut)
	if !cut {
		return
	}
	for i := range p.lines {
		p.lines[i].clear(Isolated)
	}
	p.door.withdraw(nil, Isolated)
	p.sw.withdraw(p, Isolated)
}

// IsIsolated reports whether the port is cut off.
func (p *Port) IsIsolated() bool { return p.isolated.Load() }

// Divert has what the port's VM sends, and is sent, go to a mirror port in place of those
// that it is for, or again to those if it is nil. What is not allowed is lost as before.
func (p *Port) Divert(to *Port) error {
	if to != nil && !to.isMirror() {
		return fmt.Errorf("%s is no mirror port: frames can be diverted to one of those alone", to.cfg.Name)
	}
	p.diverted.Store(to)
	return nil
}

// Diverted is the mirror port that gets what the port's VM sends, nil if none does.
func (p *Port) Diverted() *Port { return p.diverted.Load() }

// withdraw takes back what waits anywhere of what p sent. It returns when no frame of
// p's is on its way that was sent before.
func (s *Switch) withdraw(p *Port, why Reason) {
	s.mu.Lock() // no port comes or goes
	defer s.mu.Unlock()
	for _, q := range s.table.Load().ports {
		q.door.withdraw(p, why)
		for i := range q.lines {
			q.lines[i].withdraw(p, why)
		}
	}
}

// Start implements net.Port.
func (p *Port) Start(r net.Receiver) error {
	for i := range p.lines {
		p.lines[i].start(r)
	}
	p.began.Store(p.sw.now())
	p.door.starts()
	p.receiver.Store(&r)
	return nil
}

// Stop implements net.Port.
func (p *Port) Stop() {
	p.receiver.Store(nil)
	for i := range p.lines {
		p.lines[i].start(nil)
	}
	p.sw.withdraw(p, Down)
}

// Ready implements net.Port.
func (p *Port) Ready(queue int) { p.lines[queue].drain() }

// tell gives the port's VM a message of the switch's own, in a VLAN, if there is room now.
func (p *Port) tell(vlan uint16, f *net.Frame) {
	if p.trunk[vlan] {
		tagged := new(net.Frame)
		if !tag(tagged, f, vlan) {
			return
		}
		f = tagged
	}
	if r := p.receiver.Load(); r != nil {
		p.lines[(*r).Queue(f)].tell(f)
	}
}

// lost counts a frame of p's VM.
func (p *Port) lost(why Reason) { p.counters.lost[why].Add(1) }

// Stats may be called at any time.
func (p *Port) Stats() Stats {
	c := &p.counters
	s := Stats{
		Sent: c.sent.Load(), SentBytes: c.sentBytes.Load(),
		Received: c.received.Load(), ReceivedBytes: c.receivedBytes.Load(),
		Mirrored: c.mirrored.Load(), Waiting: int(p.waiting.Load()),
		Flows: p.sw.flows.Opened(p.owner()), Lost: make(map[Reason]uint64),
	}
	for _, r := range Reasons() {
		if n := c.lost[r].Load(); n > 0 {
			s.Lost[r] = n
		}
	}
	return s
}
