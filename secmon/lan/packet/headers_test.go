package packet_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"warder/secmon/lan/packet"
)

var (
	macA = packet.MAC{2, 0, 0, 0, 0, 1}
	macB = packet.MAC{2, 0, 0, 0, 0, 2}

	ether4 = &layers.Ethernet{SrcMAC: macA[:], DstMAC: macB[:], EthernetType: layers.EthernetTypeIPv4}
	ether6 = &layers.Ethernet{SrcMAC: macA[:], DstMAC: macB[:], EthernetType: layers.EthernetTypeIPv6}
	ip4    = func(p layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: p, SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2}}
	}
	ip6 = func(p layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{
			Version: 6, HopLimit: 64, NextHeader: p,
			SrcIP: netip.MustParseAddr("fd00::1").AsSlice(), DstIP: netip.MustParseAddr("fd00::2").AsSlice(),
		}
	}
	syn  = &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 7, Window: 1000, SYN: true}
	data = &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 8, Ack: 99, Window: 1000, ACK: true, PSH: true}
	udp  = &layers.UDP{SrcPort: 5353, DstPort: 53}
)

// frame puts layers together, lengths and checksums filled in.
func frame(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, parts...); err != nil {
		t.Fatal(err)
	}
	p := bytes.Clone(b.Bytes())
	sum4(p)
	return p
}

// sum4 gives a frame without tags the checksum of its IPv4 header.
func sum4(p []byte) {
	if p[12] != 8 || p[13] != 0 {
		return
	}
	h := p[14 : 14+int(p[14]&15)*4]
	h[10], h[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < len(h); i += 2 {
		sum += uint32(h[i])<<8 | uint32(h[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	h[10], h[11] = ^byte(sum>>8), ^byte(sum)
}

func TestDecode(t *testing.T) {
	hello := gopacket.Payload("hello")
	for name, c := range map[string]struct {
		frame   []byte
		want    packet.Headers
		payload string
	}{
		"TCP over IPv4": {frame(t, ether4, ip4(6), data, hello), packet.Headers{
			Type: 0x800, Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Protocol: packet.TCP, SrcPort: 40000, DstPort: 80,
			Flags: packet.ACK | packet.PSH, Seq: 8, Ack: 99, Window: 1000, Payload: 54, PayloadLen: 5,
		}, "hello"},
		"UDP over IPv6": {frame(t, ether6, ip6(17), udp, hello), packet.Headers{
			Type: 0x86dd, Src: addr("fd00::1"), Dst: addr("fd00::2"), Protocol: packet.UDP, SrcPort: 5353, DstPort: 53, Payload: 62, PayloadLen: 5,
		}, "hello"},
		"padding is no payload": {append(frame(t, ether4, ip4(17), udp, hello), make([]byte, 20)...), packet.Headers{
			Type: 0x800, Src: addr("10.0.0.1"), Dst: addr("10.0.0.2"), Protocol: packet.UDP, SrcPort: 5353, DstPort: 53, Payload: 42, PayloadLen: 5,
		}, "hello"},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Source, c.want.Destination, c.want.IP, c.want.Transport, c.want.TTL = macA, macB, true, true, 64
			var h packet.Headers
			h.Decode(c.frame, len(c.frame), false)
			if h != c.want {
				t.Errorf("\n got %+v\nwant %+v", h, c.want)
			}
			if got := string(c.frame[h.Payload : h.Payload+h.PayloadLen]); got != c.payload {
				t.Errorf("payload %q", got)
			}
		})
	}
}

func addr(s string) packet.Addr { return packet.AddrOf(netip.MustParseAddr(s)) }

func TestTagsAndARP(t *testing.T) {
	arp := &layers.ARP{
		AddrType: 1, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 2,
		SourceHwAddress: macA[:], SourceProtAddress: []byte{10, 0, 0, 1}, DstHwAddress: macB[:], DstProtAddress: []byte{10, 0, 0, 2},
	}
	p := frame(t, &layers.Ethernet{SrcMAC: macA[:], DstMAC: macB[:], EthernetType: layers.EthernetTypeQinQ},
		&layers.Dot1Q{VLANIdentifier: 5, Type: layers.EthernetTypeDot1Q}, &layers.Dot1Q{VLANIdentifier: 4094, Type: layers.EthernetTypeARP}, arp)
	var h packet.Headers
	h.Decode(p, len(p), false)
	want := packet.Headers{
		Source: macA, Destination: macB, Tags: 2, VLANs: [2]uint16{5, 4094}, Type: packet.TypeARP,
		ARP: packet.ARP{Op: 2, SenderMAC: macA, TargetMAC: macB, Sender: addr("10.0.0.1"), Target: addr("10.0.0.2")},
	}
	if h != want {
		t.Errorf("\n got %+v\nwant %+v", h, want)
	}
}

func TestFragmentsAndEcho(t *testing.T) {
	first, later := ip4(17), ip4(17)
	first.Flags, later.FragOffset = layers.IPv4MoreFragments, 2
	var h packet.Headers
	p := frame(t, ether4, first, udp, gopacket.Payload("12345678"))
	h.Decode(p, len(p), false)
	if !h.Fragment || h.FragmentOffset != 0 || !h.Transport || h.DstPort != 53 {
		t.Errorf("first: %+v", h)
	}
	p = frame(t, ether4, later, gopacket.Payload("12345678"))
	h.Decode(p, len(p), false)
	if !h.Fragment || h.FragmentOffset != 16 || h.Transport || h.Fault != 0 {
		t.Errorf("later: %+v", h)
	}
	p = frame(t, ether6, ip6(44), gopacket.Payload{17, 0, 0, 9, 0, 0, 0, 1, 1, 2, 3, 4})
	h.Decode(p, len(p), false)
	if !h.Fragment || h.FragmentOffset != 8 || h.Protocol != packet.UDP || h.Transport || h.Fault != 0 {
		t.Errorf("IPv6: %+v", h)
	}
	echo := frame(t, ether4, ip4(1), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(0, 0), Id: 77, Seq: 1})
	h.Decode(echo, len(echo), false)
	if h.SrcPort != 77 || h.DstPort != 77 {
		t.Errorf("echo: %+v", h)
	}
}

func TestFaults(t *testing.T) {
	whole := frame(t, ether4, ip4(6), data, gopacket.Payload("hello"))
	with := func(change func(p []byte) []byte) []byte {
		p := change(bytes.Clone(whole))
		if len(p) >= 34 {
			sum4(p)
		}
		return p
	}
	set := func(at int, b ...byte) []byte {
		return with(func(p []byte) []byte { copy(p[at:], b); return p })
	}
	options := func(b ...byte) []byte {
		ip := ip4(6)
		ip.Options = []layers.IPv4Option{{OptionType: b[0], OptionLength: uint8(len(b)), OptionData: b[2:]}}
		return frame(t, ether4, ip, data)
	}
	extensions := func(n int) []byte {
		var p []byte
		for range n {
			p = append(p, 60, 0, 0, 0, 0, 0, 0, 0)
		}
		return frame(t, ether6, ip6(60), gopacket.Payload(p))
	}
	tagged := append(bytes.Clone(whole[:12]), bytes.Repeat([]byte{0x81, 0, 0, 1}, 3)...)
	for want, frames := range map[packet.Fault][][]byte{
		packet.ShortEthernet:   {nil, whole[:13]},
		packet.ShortTag:        {tagged[:16]},
		packet.ManyTags:        {append(tagged, 8, 0)},
		packet.GroupSource:     {set(6, 1)},
		packet.ShortARP:        {set(12, 8, 6)[:30]},
		packet.OddARP:          {set(12, 8, 6)},
		packet.ShortIP:         {whole[:33]},
		packet.OddVersion:      {set(14, 0x65)},
		packet.OddHeaderLength: {set(14, 0x44), set(14+20+12, 0x40)},
		packet.OddLength:       {set(16, 0, 200), set(16, 0, 19), frame(t, ether4, ip4(17), gopacket.Payload{0, 1, 0, 2, 0, 99, 0, 0}), frame(t, ether4, ip4(17), gopacket.Payload{0, 1, 0, 2, 0, 7, 0, 0})},
		packet.OddChecksum:     {append(append(bytes.Clone(whole[:24]), ^whole[24]), whole[25:]...)},
		packet.SourceRoute:     {options(137, 7, 4, 1, 2, 3, 4, 0), frame(t, ether6, ip6(43), gopacket.Payload{6, 0, 0, 0, 0, 0, 0, 0})},
		packet.ShortExtension:  {frame(t, ether6, ip6(60), gopacket.Payload{6, 1, 0, 0, 0, 0, 0, 0}), frame(t, ether6, ip6(60), gopacket.Payload{6, 0, 0})},
		packet.ManyExtensions:  {extensions(9), frame(t, ether6, ip6(60), gopacket.Payload{0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0})},
		packet.TinyFragment:    {set(20, 0x20, 1), set(16, 0, 28, 0, 0, 0x20, 0)},
		packet.LongFragments:   {set(20, 0x1f, 0xff)},
		packet.ShortTransport:  {set(16, 0, 30), set(46, 0xf0)},
		packet.OddFlags:        {set(47, 0), set(47, packet.SYN|packet.FIN), set(47, packet.FIN|packet.PSH|packet.URG), set(47, packet.SYN|packet.RST)},
		packet.ToItself:        {set(26, 10, 0, 0, 2)},
	} {
		for i, p := range frames {
			var h packet.Headers
			h.Decode(p, len(p), false)
			if h.Fault != want {
				t.Errorf("%v, frame %d: %v, %+v", want, i, h.Fault, h)
			}
		}
	}
	long := frame(t, ether6, ip6(60), gopacket.Payload(append([]byte{6, 40}, make([]byte, 400)...)))
	var h packet.Headers
	if h.Decode(long[:256], len(long), false); h.Fault != packet.LongHeaders {
		t.Errorf("long headers: %v", h.Fault)
	}
	for f := packet.Sound + 1; f < packet.Faults; f++ {
		if f.String() == "" {
			t.Errorf("fault %d has no name", f)
		}
	}
}

// TestHeadIsEnough has the first 256 bytes of a frame decoded like the whole.
func TestHeadIsEnough(t *testing.T) {
	p := frame(t, ether4, ip4(6), data, gopacket.Payload(make([]byte, 9000)))
	var whole, part packet.Headers
	whole.Decode(p, len(p), false)
	part.Decode(p[:256], len(p), false)
	if whole != part || whole.PayloadLen != 9000 {
		t.Errorf("\n%+v\n%+v", whole, part)
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	p := frame(t, ether6, ip6(6), data, gopacket.Payload("hello"))
	var h packet.Headers
	if n := testing.AllocsPerRun(100, func() { h.Decode(p, len(p), false) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, p := range map[string][]byte{"tcp4": frame(b, ether4, ip4(6), data), "udp6": frame(b, ether6, ip6(17), udp)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var h packet.Headers
			for b.Loop() {
				h.Decode(p, len(p), false)
			}
		})
	}
}

// TestWhole has a frame that is to be cut be as long as it is.
func TestWhole(t *testing.T) {
	for _, p := range [][]byte{frame(t, ether4, ip4(6), data)[:54], frame(t, ether6, ip6(6), data)} {
		p = append(p, make([]byte, 5000)...)
		var h packet.Headers
		if h.Decode(p[:200], len(p), true); h.Fault != 0 || h.PayloadLen != 5000 {
			t.Errorf("%+v", h)
		}
	}
}
