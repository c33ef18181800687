package gateway

import (
	"slices"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

const (
	etherHeader = 14
	// inbound is how many frames may wait for the stack.
	inbound = 256
	// maxSegments is the most that the stack sends as one frame, in bytes.
	maxSegments = 1 << 15
)

// A link is the cable between the switch and the stack. To the one it is a receiver,
// to the other a network card. Frames for the stack wait in a queue, so that who sends
// them does not do the stack's work.
type link struct {
	g     *Gateway
	queue chan *buffer.View
	full  atomic.Bool // the switch waits to be told of room
	acks  *acks

	mu  sync.RWMutex
	to  stack.NetworkDispatcher
	mtu uint32
}

var (
	_ vnet.Receiver      = (*link)(nil)
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

func newLink(g *Gateway) *link {
	return &link{g: g, queue: make(chan *buffer.View, inbound), acks: newAcks(g.cfg.MTU, g.port.Send), mtu: uint32(g.cfg.MTU)}
}

// Queue implements net.Receiver.
func (*link) Queue(*vnet.Frame) int { return 0 }

// Deliver implements net.Receiver.
func (l *link) Deliver(_ int, f *vnet.Frame, _ int) (int, error) {
	if !l.g.wants(f) {
		l.g.counts.ignored.Add(1)
		return 0, nil
	}
	if len(l.queue) == cap(l.queue) { // it fills by no other goroutine at a time
		l.full.Store(true)
		if len(l.queue) == cap(l.queue) {
			return 0, vnet.ErrFull
		}
		l.full.Store(false)
	}
	b := buffer.NewView(f.Len) // of the stack's own, which uses them again
	b.Write(f.Head)
	for _, p := range f.Body {
		b.Write(p)
	}
	l.queue <- b
	return 0, nil
}

// wants reports whether a frame is for the gateway: asked of itself, or to go outside.
// All else that comes by would be answered by a stack that answers for everybody.
func (g *Gateway) wants(f *vnet.Frame) bool {
	var h packet.Headers
	h.Decode(f.Head, f.Len, f.GSO != vnet.NoGSO)
	switch {
	case h.Fault != packet.Sound:
		return false
	case h.Type == packet.TypeARP:
		return slices.Contains(g.addrs, h.ARP.Target.IP())
	case h.Protocol == packet.UDP && (h.DstPort == dhcpServer || h.DstPort == dhcpv6Server):
		return true
	case h.Protocol == packet.ICMPv6 && h.Dst.IsMulticast():
		return h.ICMPType == routerSolicit || h.ICMPType == 135 // who has an address; the switch asks who has it
	case h.Protocol == packet.ICMP || h.Protocol == packet.ICMPv6:
		to := h.Dst.IP()
		return slices.Contains(g.addrs, to) || to.IsLinkLocalUnicast()
	}
	return h.Protocol == packet.TCP || h.Protocol == packet.UDP
}

// run gives the stack what waits.
func (l *link) run() {
	for {
		select {
		case b := <-l.queue:
			if l.full.Load() && len(l.queue) < cap(l.queue)/2 && l.full.Swap(false) {
				l.g.port.Ready(0)
			}
			l.inject(b)
		case <-l.g.ctx.Done():
			return
		}
	}
}

func (l *link) inject(v *buffer.View) {
	var h packet.Headers
	b := v.AsSlice()
	h.Decode(b, len(b), true) // the switch has found it sound
	if l.g.answerDHCP(b, &h) || l.g.answerDHCPv6(b, &h) || l.g.answerRouter(b, &h) {
		return // with v, which a lease may hold a part of
	}
	if l.g.read(&h) {
		l = l.g.reading
	}
	l.mu.RLock()
	to := l.to
	l.mu.RUnlock()
	if to == nil {
		v.Release()
		return
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
	defer pkt.DecRef()
	if !l.ParseHeader(pkt) {
		return
	}
	eth := header.Ethernet(pkt.LinkHeader().Slice())
	pkt.PktType = tcpip.PacketHost
	if header.IsMulticastEthernetAddress(eth.DestinationAddress()) {
		pkt.PktType = tcpip.PacketMulticast
	}
	to.DeliverNetworkPacket(eth.Type(), pkt)
}

// read reports whether a frame is for a service, by way of the gateway.
func (g *Gateway) read(h *packet.Headers) bool {
	if h.Protocol != packet.TCP && h.Protocol != packet.UDP {
		return false
	}
	q := g.asker(h.Dst.IP())
	return q != nil && q != g.port
}

// WritePackets implements stack.LinkWriter.
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	n := 0
	for _, pkt := range pkts.AsSlice() {
		f := &vnet.Frame{Done: pkt.IncRef().DecRef} // it is read where it lies
		f.Fill(pkt.AsSlices()...)
		o := vnet.Offload{}
		if g := pkt.GSOOptions; g.NeedsCsum {
			o = vnet.Offload{NeedsCsum: true, CsumStart: etherHeader + uint16(g.L3HdrLen), CsumOffset: g.CsumOffset}
			if g.Type == stack.GSOTCPv4 {
				o.GSO, o.GSOSize = vnet.TCPv4, g.MSS
			} else if g.Type == stack.GSOTCPv6 {
				o.GSO, o.GSOSize = vnet.TCPv6, g.MSS
			}
		}
		h := o.Header(0)
		if err := f.SetHeader(&h, vnet.AllOffloads, l.g.cfg.MTU); err != nil {
			l.g.counts.ignored.Add(1)
			f.Release()
			continue
		}
		l.acks.pass(pkt, f)
		n++
	}
	return n, nil
}

// GSOMaxSize implements stack.GSOEndpoint.
func (*link) GSOMaxSize() uint32 { return maxSegments }

// SupportedGSO implements stack.GSOEndpoint.
func (*link) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// MTU implements stack.LinkEndpoint.
func (l *link) MTU() uint32 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mtu
}

// SetMTU implements stack.LinkEndpoint.
func (l *link) SetMTU(mtu uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mtu = mtu
}

// MaxHeaderLength implements stack.LinkEndpoint.
func (*link) MaxHeaderLength() uint16 { return etherHeader }

// LinkAddress implements stack.LinkEndpoint.
func (l *link) LinkAddress() tcpip.LinkAddress { return tcpip.LinkAddress(l.g.mac[:]) }

// SetLinkAddress implements stack.LinkEndpoint. The address is the switch's to give.
func (*link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements stack.LinkEndpoint. Checksums of guests are left to be done
// where both ends are in this process, so there is nothing to check.
func (*link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload | stack.CapabilityResolutionRequired
}

// Attach implements stack.LinkEndpoint.
func (l *link) Attach(to stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.to = to
}

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.to != nil
}

// Wait implements stack.LinkEndpoint.
func (*link) Wait() {}

// Close implements stack.LinkEndpoint.
func (*link) Close() {}

// SetOnCloseAction implements stack.LinkEndpoint.
func (*link) SetOnCloseAction(func()) {}

// ARPHardwareType implements stack.LinkEndpoint.
func (*link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader implements stack.LinkEndpoint.
func (l *link) AddHeader(pkt *stack.PacketBuffer) {
	eth := header.Ethernet(pkt.LinkHeader().Push(etherHeader))
	eth.Encode(&header.EthernetFields{SrcAddr: l.LinkAddress(), DstAddr: pkt.EgressRoute.RemoteLinkAddress, Type: pkt.NetworkProtocolNumber})
}

// ParseHeader implements stack.LinkEndpoint.
func (*link) ParseHeader(pkt *stack.PacketBuffer) bool {
	_, ok := pkt.LinkHeader().Consume(etherHeader)
	return ok
}
