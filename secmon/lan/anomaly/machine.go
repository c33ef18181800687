package anomaly

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"warder/secmon/lan/packet"
)

// What findings are called: the action of their events.
const (
	PortScan = "port-scan"
	HostScan = "host-scan"
	Beacon   = "beacon"
	Tunnel   = "dns-tunnel"
)

// Finding is something that a VM did.
type Finding struct {
	Action  string
	Message string
}

// Machine is what one VM does. It is safe for concurrent use.
type Machine struct {
	mu      sync.Mutex
	ports   recent[netip.Addr, scan[uint16]] // tried, by destination
	vsock   recent[uint32, scan[uint32]]     // ports of vsock, by CID
	hosts   recent[service, scan[netip.Addr]]
	rhythms recent[target, rhythm]
	domains recent[string, domain]
	held    map[Held]*holding
}

// service is a port of whatever host; of ARP it is zero.
type service struct {
	protocol uint8
	port     uint16
}

// target is a service at one host.
type target struct {
	host netip.Addr
	service
}

// How many destinations, ports, targets and domains of one VM are known at a time. A
// VM that deals with more at once is a proxy or a resolver, or scans.
const (
	maxHosts   = 256
	maxPorts   = 64
	maxTargets = 256
	maxDomains = 128
)

// NewMachine makes a machine that has done nothing.
func NewMachine() *Machine {
	return &Machine{
		ports:   recent[netip.Addr, scan[uint16]]{limit: maxHosts},
		vsock:   recent[uint32, scan[uint32]]{limit: maxHosts},
		hosts:   recent[service, scan[netip.Addr]]{limit: maxPorts},
		rhythms: recent[target, rhythm]{limit: maxTargets},
		domains: recent[string, domain]{limit: maxDomains},
		held:    make(map[Held]*holding),
	}
}

// Connects says that the VM begins a conversation, at a time in nanoseconds, or is not
// let begin one.
func (m *Machine) Connects(now int64, protocol uint8, to netip.Addr, port uint16) (found []Finding) {
	switch protocol {
	case packet.TCP:
	case packet.UDP:
		// An answer that is seen without its question looks like a question to the
		// port of the one who asked, which the system chose. Linux chooses from here on.
		if port >= 32768 {
			return nil
		}
	case packet.ICMP, packet.ICMPv6:
		port = 0
	default:
		return nil
	}
	if to.IsMulticast() || to == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := service{protocol, port}
	if protocol == packet.TCP || protocol == packet.UDP {
		if n, in := m.ports.get(to, now).try(port, now); n > 0 {
			found = append(found, Finding{PortScan, fmt.Sprintf("tries %d ports of %v within %v", n, to, in)})
		}
		if r := m.rhythms.get(target{to, s}, now); r.begin(now) {
			found = append(found, Finding{Beacon, fmt.Sprintf("connects to %v %s every %v, the last %d times", to, s, r.period().Round(time.Second), beats)})
		}
	}
	if n, in := m.hosts.get(s, now).try(to, now); n > 0 {
		found = append(found, Finding{HostScan, fmt.Sprintf("tries %s of %d hosts within %v", s, n, in)})
	}
	return found
}

// Dials says that the VM asks for a port of a CID by vsock.
func (m *Machine) Dials(now int64, cid, port uint32) (found []Finding) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n, in := m.vsock.get(cid, now).try(port, now); n > 0 {
		found = append(found, Finding{PortScan, fmt.Sprintf("tries %d ports of CID %d by vsock within %v", n, cid, in)})
	}
	return found
}

// Asks says that the VM asks for the hardware address of another, by ARP or neighbour
// discovery.
func (m *Machine) Asks(now int64, who netip.Addr) (found []Finding) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n, in := m.hosts.get(service{}, now).try(who, now); n > 0 {
		found = append(found, Finding{HostScan, fmt.Sprintf("asks for the hardware addresses of %d hosts within %v", n, in)})
	}
	return found
}

func (s service) String() string {
	switch s.protocol {
	case packet.TCP:
		return fmt.Sprintf("port %d/tcp", s.port)
	case packet.UDP:
		return fmt.Sprintf("port %d/udp", s.port)
	}
	return "ICMP"
}

// recent is a map of what was in use lately.
type recent[K comparable, V any] struct {
	limit int
	m     map[K]*used[V]
}

type used[V any] struct {
	at    int64
	value V
}

// get gives the value of a key, a new one if it has none. When there are too many, the
// one that was not in use for longest goes.
func (r *recent[K, V]) get(k K, now int64) *V {
	u := r.m[k]
	if u == nil {
		if r.m == nil {
			r.m = make(map[K]*used[V])
		}
		if len(r.m) >= r.limit {
			var oldest K
			at := int64(1<<63 - 1)
			for k, u := range r.m {
				if u.at < at {
					oldest, at = k, u.at
				}
			}
			delete(r.m, oldest)
		}
		u = &used[V]{}
		r.m[k] = u
	}
	u.at = now
	return &u.value
}
