package net

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bulk is a payload whose every place can be told.
func bulk(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// large are packets that are to be cut, one of each kind, with the header that says
// so.
func large() map[string]struct {
	packet
	gso  GSO
	size int
	need uint64 // what a driver has to negotiate to get it whole
} {
	return map[string]struct {
		packet
		gso  GSO
		size int
		need uint64
	}{
		"TCPv4":     {packet{proto: protoTCP, options: 12, flags: tcpFIN | tcpPSH | 0x10, seq: 1<<32 - 3000, id: 65534, payload: bulk(60001)}, TCPv4, 1400, featureGuestTSO4},
		"TCPv6":     {packet{v6: true, proto: protoTCP, flags: tcpPSH, payload: bulk(64000)}, TCPv6, 1440, featureGuestTSO6},
		"TCPv6 ext": {packet{v6: true, proto: protoTCP, options: 16, payload: bulk(5000)}, TCPv6, 1400, featureGuestTSO6},
		"VLANs":     {packet{tags: 2, proto: protoTCP, payload: bulk(10000)}, TCPv4, 1000, featureGuestTSO4},
		"UDPv4":     {packet{proto: protoUDP, payload: bulk(20001)}, UDP, 1400, featureGuestUSO4},
		"UDPv6":     {packet{v6: true, proto: protoUDP, payload: bulk(20000)}, UDP, 1000, featureGuestUSO6},
	}
}

func gsoHeader(p packet, gso GSO, size int) (h [HeaderSize]byte, b []byte) {
	h, b = p.partial()
	h[offGSOType] = uint8(gso)
	binary.LittleEndian.PutUint16(h[offGSOSize:], uint16(size))
	binary.LittleEndian.PutUint16(h[offHdrLen:], 3) // a lie that nobody believes
	return h, b
}

// TestWholeSegments sends what is to be cut from a guest to one that takes it whole:
// nothing of it changes, and the header is that of the frame.
func TestWholeSegments(t *testing.T) {
	for name, c := range large() {
		t.Run(name, func(t *testing.T) {
			a, b := Wire()
			from, to := newDevice(t, Config{Port: a, MAC: MAC{2, 9}}), newDevice(t, Config{Port: b})
			sender, receiver := start(t, from, 0), start(t, to, 0)
			h, frame := gsoHeader(c.packet, c.gso, c.size)
			receiver.offer(rx0, len(frame)/4000+1, 4096)
			sender.send(tx0, h, frame[:10], frame[10:5000], frame[5000:])
			got, body := receiver.received(rx0)
			if !bytes.Equal(frame, body) {
				t.Errorf("%d bytes came as %d others", len(frame), len(body))
			}
			binary.LittleEndian.PutUint16(h[offHdrLen:], uint16(c.headers()))
			h[offNumBuffers] = got[offNumBuffers]
			if diff := cmp.Diff(h, got); diff != "" {
				t.Errorf("header: %s", diff)
			}
			if s := to.Stats(); s.Segments != 0 || s.Received != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestCut sends the same to a guest that does not take it. It gets segments as a
// sender makes them who has no offloads.
func TestCut(t *testing.T) {
	for name, c := range large() {
		for _, without := range []uint64{c.need, featureGuestCsum} {
			t.Run(fmt.Sprintf("%s without %#x", name, without), func(t *testing.T) {
				a, b := Wire()
				from, to := newDevice(t, Config{Port: a, MAC: MAC{2, 9}}), newDevice(t, Config{Port: b})
				sender, receiver := start(t, from, 0), start(t, to, without)
				h, frame := gsoHeader(c.packet, c.gso, c.size)
				segments := (len(c.payload) + c.size - 1) / c.size
				// Fewer buffers than it takes, again and again.
				receiver.offer(rx0, 1, 2048)
				sender.Rings[tx0].Add(buffers(h[:], frame)...)
				sender.Kick(tx0)
				var payload []byte
				for i := range segments {
					got, body := receiver.received(rx0)
					if i == 0 {
						sender.nothing(tx0) // it waits in the guest's memory
					}
					receiver.offer(rx0, 1+i%3, 2048)
					n := min(c.size, len(c.payload)-i*c.size)
					if without == featureGuestCsum {
						if got[offFlags] != 0 || !c.valid(body) {
							t.Fatalf("segment %d has a wrong checksum; header % x, % x", i, got, body[:100])
						}
					} else {
						want := (&Offload{NeedsCsum: true, CsumStart: uint16(c.l4()), CsumOffset: uint16(c.field())}).Header(1)
						if got != want {
							t.Fatalf("segment %d: header % x, want % x", i, got, want)
						}
					}
					want := c.segmentBytes(i, i*c.size, n, i == segments-1)
					binary.BigEndian.PutUint16(body[c.l4()+c.field():], 0)
					if diff := cmp.Diff(want, body); diff != "" {
						t.Fatalf("segment %d: %s", i, diff)
					}
					payload = append(payload, body[c.headers():]...)
				}
				if !bytes.Equal(payload, c.payload) {
					t.Error("the payload is another")
				}
				sender.Answer(tx0)
				if s := to.Stats(); s.Segments != uint64(segments) || s.Received != 1 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// segmentBytes is segment i as its sender would have made it, without a checksum.
func (p packet) segmentBytes(i, off, n int, last bool) []byte {
	p.payload = p.payload[off : off+n]
	p.seq += uint32(off)
	p.id += uint16(i)
	if !last {
		p.flags &^= tcpFIN | tcpPSH
	}
	return p.bytes()
}

func TestECN(t *testing.T) {
	a, b := Wire()
	from, to := newDevice(t, Config{Port: a, MAC: MAC{2, 9}}), newDevice(t, Config{Port: b})
	sender, receiver := start(t, from, 0), start(t, to, featureGuestECN)
	p := packet{proto: protoTCP, flags: tcpCWR | 0x10, payload: bulk(3000)}
	h, frame := gsoHeader(p, TCPv4, 1000)
	h[offGSOType] |= gsoECN
	receiver.offer(rx0, 4, 2048)
	sender.send(tx0, h, frame)
	for i := range 3 {
		_, body := receiver.received(rx0)
		if cwr := body[p.l4()+13]&tcpCWR != 0; cwr != (i == 0) {
			t.Errorf("segment %d: CWR is %v", i, cwr)
		}
	}
	receiver.restart(to, 0)
	receiver.offer(rx0, 4, 2048)
	sender.send(tx0, h, frame)
	if got, _ := receiver.received(rx0); got[offGSOType] != uint8(TCPv4)|gsoECN {
		t.Errorf("header % x", got)
	}
}

// TestChecksumIsFilledIn sends a packet whose checksum is left to be done to a guest
// that wants it done.
func TestChecksumIsFilledIn(t *testing.T) {
	a, b := Wire()
	from, to := newDevice(t, Config{Port: a, MAC: MAC{2, 9}, MTU: 9000}), newDevice(t, Config{Port: b})
	sender, receiver := start(t, from, 0), start(t, to, featureGuestCsum)
	for _, p := range []packet{
		{proto: protoTCP, payload: bulk(1)}, {proto: protoTCP, payload: bulk(1001)}, {proto: protoUDP, payload: bulk(8000)},
		{v6: true, proto: protoTCP, payload: bulk(333)}, {v6: true, proto: protoUDP, payload: bulk(7)}, {v6: true, proto: protoUDP, options: 8},
	} {
		h, frame := p.partial()
		receiver.offer(rx0, 5, 2048)
		// Pieces of odd length, so that words are in two.
		at := min(len(frame), HeadSize+1)
		sender.send(tx0, h, frame[:at/2], frame[at/2:at], frame[at:])
		got, body := receiver.received(rx0)
		if got[offFlags] != 0 || !p.valid(body) {
			t.Errorf("%d bytes: header % x, checksum %x", len(frame), got, body[p.l4()+p.field():][:2])
		}
		receiver.restart(to, featureGuestCsum)
	}
}

func TestSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		b := make([]byte, r.IntN(300))
		for i := range b {
			b[i] = byte(r.Uint32() | r.Uint32()<<3 | 0xf0)
		}
		var s summer
		for rest := b; len(rest) > 0; {
			n := r.IntN(len(rest) + 1)
			s.add(rest[:n])
			rest = rest[n:]
		}
		// 0 and 0xffff are the same.
		got, want := fold(s.sum)%0xffff, naive(b)%0xffff
		if got != want || fold(add(0, b))%0xffff != want {
			t.Fatalf("%d bytes: %#x, want %#x", len(b), got, want)
		}
	}
}

// TestMalformed has headers that do not fit their frames: nothing is sent, the guest
// gets its buffers back and goes on.
func TestMalformed(t *testing.T) {
	tcp := packet{proto: protoTCP, options: 12, payload: bulk(3000)}
	set16 := func(off int, v uint16) func([]byte, []byte) {
		return func(h, _ []byte) { binary.LittleEndian.PutUint16(h[off:], v) }
	}
	for name, c := range map[string]struct {
		packet
		gso     GSO
		without uint64
		spoil   func(h, frame []byte)
	}{
		"no checksums agreed on":       {packet: packet{proto: protoUDP}, without: featureCsum},
		"no TSO4 agreed on":            {packet: tcp, gso: TCPv4, without: featureHostTSO4},
		"no TSO6 agreed on":            {packet: packet{v6: true, proto: protoTCP, payload: bulk(3000)}, gso: TCPv6, without: featureHostTSO6},
		"no ECN agreed on":             {packet: tcp, gso: TCPv4 | gsoECN, without: featureHostECN},
		"no USO agreed on":             {packet: packet{proto: protoUDP, payload: bulk(3000)}, gso: UDP, without: featureHostUSO},
		"checksum in Ethernet":         {packet: tcp, spoil: set16(offCsumStart, etherHeader-1)},
		"checksum behind the end":      {packet: packet{proto: protoUDP, payload: bulk(10)}, spoil: set16(offCsumOffset, 17)},
		"checksum behind the headers":  {packet: tcp, spoil: set16(offCsumStart, HeadSize)},
		"offsets that wrap":            {packet: tcp, spoil: func(h, f []byte) { set16(offCsumStart, 0xffff)(h, f); set16(offCsumOffset, 0xffff)(h, f) }},
		"segments without checksums":   {packet: tcp, gso: TCPv4, spoil: func(h, _ []byte) { h[offFlags] = 0 }},
		"segments of nothing":          {packet: tcp, gso: TCPv4, spoil: set16(offGSOSize, 0)},
		"segments of little":           {packet: tcp, gso: TCPv4, spoil: set16(offGSOSize, minSegment-1)},
		"segments beyond the MTU":      {packet: tcp, gso: TCPv4, spoil: set16(offGSOSize, 1600)},
		"fragments":                    {packet: packet{proto: protoUDP, payload: bulk(3000)}, gso: 3},
		"an unknown kind":              {packet: tcp, gso: 77},
		"TCPv6 that is TCPv4":          {packet: tcp, gso: TCPv6},
		"TCPv4 that is TCPv6":          {packet: packet{v6: true, proto: protoTCP, payload: bulk(3000)}, gso: TCPv4},
		"TCP that is UDP":              {packet: packet{proto: protoUDP, payload: bulk(3000)}, gso: TCPv4},
		"UDP that is TCP":              {packet: tcp, gso: UDP},
		"UDP with ECN":                 {packet: packet{proto: protoUDP, payload: bulk(3000)}, gso: UDP | gsoECN},
		"checksum of another protocol": {packet: tcp, gso: TCPv4, spoil: set16(offCsumOffset, udpCsum)},
		"checksum not where TCP is":    {packet: tcp, gso: TCPv4, spoil: set16(offCsumStart, 36)},
		"not IP":                       {packet: tcp, gso: TCPv4, spoil: func(_, f []byte) { f[etherType] = 0x55 }},
		"another version of IP":        {packet: tcp, gso: TCPv4, spoil: func(_, f []byte) { f[etherHeader] = 0x65 }},
		"an IP header too short":       {packet: tcp, gso: TCPv4, spoil: func(_, f []byte) { f[etherHeader] = 0x44 }},
		"a fragment":                   {packet: tcp, gso: TCPv4, spoil: func(_, f []byte) { f[etherHeader+6] = 0x20 }},
		"a TCP header too short":       {packet: tcp, gso: TCPv4, spoil: func(_, f []byte) { f[tcp.l4()+12] = 4 << 4 }},
		"too long without segments":    {packet: packet{proto: protoTCP, payload: bulk(1600)}},
		"too long to be a segment":     {packet: packet{proto: protoTCP, payload: bulk(1600)}, gso: TCPv4, spoil: set16(offGSOSize, 2000)},
		"longer than any frame":        {packet: packet{proto: protoTCP, payload: bulk(MaxFrame)}, gso: TCPv4},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPort()
			dev := newDevice(t, Config{Port: p})
			d := start(t, dev, c.without)
			h, frame := c.partial()
			if c.gso != 0 {
				h, frame = gsoHeader(c.packet, c.gso, 1000)
			}
			if c.spoil != nil {
				c.spoil(h[:], frame)
			}
			d.send(tx0, h, frame)
			if got := p.sent(); len(got) != 0 {
				t.Fatalf("it was sent: %+v", got[0].Offload)
			}
			if s := dev.Stats(); s.Malformed != 1 {
				t.Errorf("%+v", s)
			}
			d.send(tx0, [HeaderSize]byte{}, make([]byte, 60))
			if len(p.sent()) != 1 {
				t.Error("afterwards nothing is sent")
			}
		})
	}
	for _, n := range []int{0, 1, HeaderSize - 1, HeaderSize, HeaderSize + etherHeader - 1} {
		p := newPort()
		dev := newDevice(t, Config{Port: p})
		d := start(t, dev, 0)
		d.Rings[tx0].Add(buffers(make([]byte, n))...)
		d.Answer(tx0)
		if s := dev.Stats(); s.Malformed != 1 || len(p.sent()) != 0 {
			t.Errorf("%d bytes: %+v", n, s)
		}
	}
}

// TestLittleIsNotCut sends what is to be cut and fits one segment.
func TestLittleIsNotCut(t *testing.T) {
	p := newPort()
	d := start(t, newDevice(t, Config{Port: p}), 0)
	h, frame := gsoHeader(packet{proto: protoTCP, payload: bulk(1000)}, TCPv4, 1000)
	d.send(tx0, h, frame)
	want := Offload{NeedsCsum: true, CsumStart: 34, CsumOffset: 16}
	if got := p.sent(); len(got) != 1 || got[0].Offload != want {
		t.Errorf("%+v", got)
	}
}
