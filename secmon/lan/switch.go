package lan

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"warder/devices/virtio/net"
	"warder/secmon/lan/flow"
	"warder/secmon/lan/packet"
)

const (
	// MaxPorts bounds the ports of a switch.
	MaxPorts = flow.MaxPorts
	// DefaultFlows is how many flows are known at a time; each takes about 250 bytes.
	DefaultFlows = 65536
)

// Config is a switch.
type Config struct {
	// Inspector sees all frames. Default: none.
	Inspector Inspector
	// Flows is how many flows are known at a time, in all. Default: DefaultFlows.
	Flows int
}

// A Switch forwards frames between its ports. It is safe for concurrent use.
type Switch struct {
	inspector Inspector
	began     time.Time
	flows     *Flows
	learned   stations
	table     atomic.Pointer[table]

	mu     sync.Mutex // held while the table is replaced
	nextID int
}

// A table is what frames are forwarded by. It never changes.
type table struct {
	ports     []*Port
	stations  map[station]*Port
	addresses map[address]*Port
	members   map[uint16][]*Port // of a VLAN
	mirrors   []*Port
	policy    *policy
}

type station struct {
	vlan uint16
	mac  net.MAC
}

type address struct {
	vlan uint16
	addr packet.Addr
}

// New makes a switch without ports, on which nothing is allowed.
func New(cfg Config) *Switch {
	if cfg.Flows == 0 {
		cfg.Flows = DefaultFlows
	}
	ended := func(*Flow, string) {}
	if cfg.Inspector != nil {
		ended = cfg.Inspector.Ended
	}
	s := &Switch{inspector: cfg.Inspector, began: time.Now(), flows: flow.New(cfg.Flows, ended)}
	if cfg.Inspector != nil {
		cfg.Inspector.Start(s.flows)
	}
	s.table.Store(newTable(nil, &policy{}))
	return s
}

// now is the monotonic time in nanoseconds, never 0.
func (s *Switch) now() int64 { return int64(time.Since(s.began)) + 1 }

func newTable(ports []*Port, p *policy) *table {
	t := &table{
		ports: ports, policy: p,
		stations: make(map[station]*Port), addresses: make(map[address]*Port), members: make(map[uint16][]*Port),
	}
	for _, port := range ports {
		if port.isMirror() {
			t.mirrors = append(t.mirrors, port)
			continue
		}
		for _, vlan := range port.VLANs() {
			t.members[vlan] = append(t.members[vlan], port)
			if port.cfg.Uplink {
				continue
			}
			t.stations[station{vlan, port.cfg.MAC}] = port
			for _, a := range port.addrs {
				t.addresses[address{vlan, a}] = port
			}
		}
	}
	return t
}

// AddPort adds a port. It fails if another port has its name, or an address of its in
// one of its VLANs.
func (s *Switch) AddPort(cfg PortConfig) (*Port, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("port %s: %w", cfg.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.table.Load()
	if len(old.ports) == MaxPorts {
		return nil, fmt.Errorf("port %s: the switch has %d ports already", cfg.Name, MaxPorts)
	}
	p := newPort(s, s.nextID+1, cfg)
	if err := old.conflict(p); err != nil {
		return nil, fmt.Errorf("port %s: %w", cfg.Name, err)
	}
	s.nextID++
	p.slot = old.slot()
	s.table.Store(newTable(append(slices.Clone(old.ports), p), old.policy))
	return p, nil
}

// slot is the least that no port has.
func (t *table) slot() int {
	var taken [MaxPorts]bool
	for _, p := range t.ports {
		taken[p.slot] = true
	}
	return slices.Index(taken[:], false)
}

var errTaken = errors.New("there is a port of that name")

func (t *table) conflict(p *Port) error {
	for _, other := range t.ports {
		if other.cfg.Name == p.cfg.Name {
			return errTaken
		}
	}
	if p.cfg.Uplink || p.isMirror() {
		return nil
	}
	for _, vlan := range p.VLANs() {
		if other := t.stations[station{vlan, p.cfg.MAC}]; other != nil {
			return fmt.Errorf("MAC address %v is that of %s: give another", p.cfg.MAC, other.cfg.Name)
		}
		for _, a := range p.addrs {
			if other := t.addresses[address{vlan, a}]; other != nil {
				return fmt.Errorf("address %v is that of %s: give another", a.IP(), other.cfg.Name)
			}
		}
	}
	return nil
}

// Remove takes a port away, whose device has stopped or is about to. What it sends
// from now on is lost.
func (s *Switch) Remove(p *Port) {
	s.mu.Lock()
	old := s.table.Load()
	ports := slices.DeleteFunc(slices.Clone(old.ports), func(q *Port) bool { return q == p })
	s.table.Store(newTable(ports, old.policy))
	s.mu.Unlock()
	p.Isolate(true)
	s.learned.forget(p)
	s.flows.Drop(func(f *Flow) bool { return f.Data.from == p || f.Data.to == p }, gone)
	for _, q := range ports {
		for i := range q.lines {
			q.lines[i].forget(p)
		}
	}
}

// SetRules replaces all rules at once. Flows that the new rules allow go on; the
// next frame of any other is lost.
func (s *Switch) SetRules(rules []Rule) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.table.Load()
	p, err := compile(rules, old.policy.generation+1)
	if err != nil {
		return err
	}
	t := *old
	t.policy = p
	s.table.Store(&t)
	return nil
}

// Ports are the switch's ports, in the order in which they came.
func (s *Switch) Ports() []*Port { return slices.Clone(s.table.Load().ports) }

// Members are the ports in a VLAN.
func (s *Switch) Members(vlan uint16) []*Port { return slices.Clone(s.table.Load().members[vlan]) }

// VLANs are those that ports are in, in their order.
func (s *Switch) VLANs() []uint16 { return slices.Sorted(maps.Keys(s.table.Load().members)) }

// Reachable are the ports that from may begin a conversation with.
func (s *Switch) Reachable(from *Port) (to []*Port) {
	t := s.table.Load()
	for _, p := range t.ports {
		if p != from && !p.isMirror() && slices.ContainsFunc(p.VLANs(), from.in) && t.policy.begins(from, p) {
			to = append(to, p)
		}
	}
	return to
}

// gateway is the gateway of a VLAN, nil if it has none.
func (t *table) gateway(vlan uint16) *Port {
	for _, p := range t.members[vlan] {
		if p.cfg.Trusted {
			return p
		}
	}
	return nil
}

// Requests are the rules by which a gateway reads what one port says to another, and
// whether there is one by which it need not. A port and protocol are those of the
// receiver.
func (s *Switch) Requests(from, to *Port, proto uint8, port uint16) (list []Rule, all bool) {
	p := s.table.Load().policy
	h := packet.Headers{Protocol: proto, DstPort: port}
	p.has(from, to, &h, func(r *Rule) bool {
		if r.reads() {
			list = append(list, *r)
		} else {
			all = true
		}
		return false
	})
	return list, all
}

// uplink is the one uplink of a VLAN that is not from, nil if there are none or several.
func (t *table) uplink(vlan uint16, from *Port) (found *Port) {
	for _, p := range t.members[vlan] {
		if !p.cfg.Uplink || p == from {
			continue
		}
		if found != nil {
			return nil
		}
		found = p
	}
	return found
}

// Owner is the port that an address in a VLAN was assigned to, nil if there is none.
func (s *Switch) Owner(vlan uint16, a netip.Addr) *Port {
	return s.table.Load().addresses[address{vlan, packet.AddrOf(a)}]
}

// Station is the port that a MAC address in a VLAN was assigned to, nil if there is
// none.
func (s *Switch) Station(vlan uint16, mac net.MAC) *Port {
	return s.table.Load().stations[station{vlan, mac}]
}
