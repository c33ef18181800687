package packet_test

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"warder/secmon/lan/packet"
)

// FuzzDecode holds what is read of any bytes against their length, and where
// there is no fault against what gopacket reads.
func FuzzDecode(f *testing.F) {
	hello := gopacket.Payload("hello")
	f.Add(frame(f, ether4, ip4(6), syn))
	f.Add(frame(f, ether4, ip4(6), data, hello))
	f.Add(frame(f, ether6, ip6(17), udp, hello))
	f.Add(frame(f, ether6, ip6(60), gopacket.Payload{17, 0, 1, 4, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0, 0}))
	f.Add(frame(f, ether6, ip6(44), gopacket.Payload{17, 0, 0, 9, 0, 0, 0, 1, 1, 2, 3, 4}))
	f.Add(frame(f, ether4, ip4(1), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 77, Seq: 1}))
	f.Add(frame(f, &layers.Ethernet{SrcMAC: macA[:], DstMAC: macB[:], EthernetType: layers.EthernetTypeDot1Q}, &layers.Dot1Q{VLANIdentifier: 5, Type: layers.EthernetTypeIPv4}, ip4(17), udp))
	f.Fuzz(func(t *testing.T, p []byte) {
		var h, part packet.Headers
		h.Decode(p, len(p), false)
		if h.Payload < 0 || h.PayloadLen < 0 || h.Payload+h.PayloadLen > len(p) {
			t.Fatalf("payload of %d bytes at %d in %d: %+v", h.PayloadLen, h.Payload, len(p), h)
		}
		if part.Decode(p[:min(len(p), 256)], len(p), false); part.Fault == 0 && part != h {
			t.Fatalf("of the head alone\n%+v\n%+v", part, h)
		}
		if h.Fault == 0 {
			compare(t, p, &h)
		}
	})
}

// compare holds headers against gopacket's.
func compare(t *testing.T, p []byte, h *packet.Headers) {
	g := gopacket.NewPacket(p, layers.LayerTypeEthernet, gopacket.NoCopy)
	var tags []uint16
	var src, dst netip.Addr
	for _, l := range g.Layers() {
		switch l := l.(type) {
		case *layers.Dot1Q:
			tags = append(tags, l.VLANIdentifier)
		case *layers.IPv4:
			src, _ = netip.AddrFromSlice(l.SrcIP)
			dst, _ = netip.AddrFromSlice(l.DstIP)
		case *layers.IPv6:
			src, _ = netip.AddrFromSlice(l.SrcIP)
			dst, _ = netip.AddrFromSlice(l.DstIP)
		}
		if src.IsValid() {
			break // the outermost
		}
	}
	if h.IP && src.IsValid() && (h.Src.IP() != src.Unmap() || h.Dst.IP() != dst.Unmap()) {
		t.Fatalf("addresses %v, %v; gopacket has %v, %v", h.Src.IP(), h.Dst.IP(), src, dst)
	}
	if len(tags) > 0 && (len(tags) > int(h.Tags) || tags[0] != h.VLANs[0]) {
		t.Fatalf("tags %v; gopacket has %v", h.VLANs[:h.Tags], tags)
	}
	if !h.Transport || g.ErrorLayer() != nil {
		return
	}
	switch l := g.TransportLayer().(type) {
	case *layers.TCP:
		if h.Protocol != packet.TCP || uint16(l.SrcPort) != h.SrcPort || uint16(l.DstPort) != h.DstPort || l.Seq != h.Seq || l.Ack != h.Ack ||
			l.SYN != (h.Flags&packet.SYN != 0) || l.FIN != (h.Flags&packet.FIN != 0) || len(l.Payload) != h.PayloadLen {
			t.Fatalf("TCP\n%+v\n%+v", h, l)
		}
	case *layers.UDP:
		if h.Protocol != packet.UDP || uint16(l.SrcPort) != h.SrcPort || uint16(l.DstPort) != h.DstPort || len(l.Payload) != h.PayloadLen {
			t.Fatalf("UDP\n%+v\n%+v", h, l)
		}
	}
}
