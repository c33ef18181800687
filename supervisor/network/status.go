package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"warder/secmon/lan/gateway"
)

// Status is a network as it is now.
type Status struct {
	PID   int          `json:"pid"` // of the process that it is in
	VLANs []VLANStatus `json:"vlans"`
	Ports []PortStatus `json:"ports"`
	// Rules are what is allowed, one a line.
	Rules []string `json:"rules"`
}

// VLANStatus is one VLAN.
type VLANStatus struct {
	Name     string         `json:"name"`
	ID       uint16         `json:"id"`
	Networks []netip.Prefix `json:"networks"`
	Gateway  gateway.Stats  `json:"gateway"`
}

// PortStatus is one port of the switch.
type PortStatus struct {
	Name      string            `json:"name"`
	VLAN      string            `json:"vlan"`
	Trunk     []string          `json:"trunk,omitempty"`    // VLANs with a tag
	Mirror    []string          `json:"mirror,omitempty"`   // of whose frames it gets copies
	Diverted  string            `json:"diverted,omitempty"` // the mirror port that gets its frames
	MAC       string            `json:"mac"`
	Addresses []netip.Addr      `json:"addresses"`
	Isolated  bool              `json:"isolated,omitempty"` // cut off
	Published []string          `json:"published,omitempty"`
	Sent      uint64            `json:"sent"` // frames of its VM, lost ones included
	SentBytes uint64            `json:"sent_bytes"`
	Received  uint64            `json:"received"` // frames that its VM has got
	RecvBytes uint64            `json:"received_bytes"`
	Waiting   int               `json:"waiting"` // frames of its VM that others have no room for
	Flows     int               `json:"flows"`   // that its VM has begun
	Lost      map[string]uint64 `json:"lost"`    // frames of its VM, by the reason
}

// Status says what there is and what it has done.
func (n *Network) Status() (s Status) {
	n.mu.Lock()
	defer n.mu.Unlock()
	names := make(map[uint16]string)
	for _, v := range n.vlans {
		names[v.ID] = v.Name
		s.VLANs = append(s.VLANs, VLANStatus{v.Name, v.ID, v.networks(), v.gateway.Stats()})
	}
	for _, p := range n.lan.Ports() {
		cfg, st := p.Config(), p.Stats()
		port := PortStatus{
			Name: p.Name(), VLAN: names[cfg.VLAN], Mirror: cfg.Mirror, MAC: cfg.MAC.String(), Addresses: cfg.Addresses, Isolated: p.IsIsolated(),
			Sent: st.Sent, SentBytes: st.SentBytes, Received: st.Received, RecvBytes: st.ReceivedBytes,
			Waiting: st.Waiting, Flows: st.Flows, Lost: make(map[string]uint64),
		}
		for _, id := range cfg.Trunk {
			port.Trunk = append(port.Trunk, names[id])
		}
		if to := p.Diverted(); to != nil {
			port.Diverted = to.Name()
		}
		for why, count := range st.Lost {
			port.Lost[why.String()] = count
		}
		if own := n.services[p.Name()]; own != nil {
			for _, pub := range own.published {
				port.Published = append(port.Published, fmt.Sprintf("%v:%d", pub.Addr(), pub.port))
			}
		}
		s.Ports = append(s.Ports, port)
	}
	slices.SortFunc(s.Ports, func(a, b PortStatus) int { return strings.Compare(a.Name, b.Name) })
	s.Rules = []string{}
	for _, a := range n.allow {
		s.Rules = append(s.Rules, line(a))
	}
	for _, own := range n.sorted() {
		for _, a := range ofItself(own.Name, own.Allow) {
			s.Rules = append(s.Rules, line(a))
		}
	}
	return s
}
