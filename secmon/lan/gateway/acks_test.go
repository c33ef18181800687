package gateway

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan/packet"
)

// segment is one that a stack sends from a port, with its frame, whose Len is its number.
func segment(number int, port uint16, ack uint32, flags header.TCPFlags, options, b []byte) (*stack.PacketBuffer, *vnet.Frame) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: 100, Payload: buffer.MakeWithData(b)})
	size := header.TCPMinimumSize + len(options)
	s := header.TCP(pkt.TransportHeader().Push(size))
	s.Encode(&header.TCPFields{SrcPort: port, DstPort: 40000, AckNum: ack, DataOffset: uint8(size), Flags: flags})
	copy(s[header.TCPMinimumSize:], options)
	pkt.TransportProtocolNumber = packet.TCP
	ip := header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize))
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(header.IPv4MinimumSize + size + len(b)), Protocol: packet.TCP, SrcAddr: toAddress(network4.Addr()), DstAddr: toAddress(network4.Addr().Next())})
	pkt.NetworkProtocolNumber = ipv4.ProtocolNumber
	return pkt, &vnet.Frame{Len: number}
}

// sent notes the numbers of frames.
type sent struct {
	mu   sync.Mutex
	list []int
}

func (s *sent) send(f *vnet.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, f.Len)
}

// take gives those since the last call.
func (s *sent) take() (list []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, s.list = s.list, nil
	return list
}

func TestAcknowledgements(t *testing.T) {
	const ack, push = header.TCPFlagAck, header.TCPFlagAck | header.TCPFlagPsh
	sack := []byte{header.TCPOptionNOP, header.TCPOptionNOP, header.TCPOptionSACK, 10, 0, 0, 0, 9, 0, 0, 0, 10}
	type said struct {
		acks    uint32
		flags   header.TCPFlags
		options []byte
		data    string
		port    uint16
	}
	open := said{acks: 1, flags: header.TCPFlagSyn | ack}
	for what, c := range map[string]struct {
		send      []said
		now, then []int // the numbers of the frames that go at once, and those after a while
	}{
		"of a little":               {[]said{open, {acks: 11, flags: ack}}, []int{0}, []int{1}},
		"with the answer":           {[]said{open, {acks: 11, flags: ack}, {acks: 11, flags: push, data: "hi"}}, []int{0, 2}, nil},
		"the second":                {[]said{open, {acks: 11, flags: ack}, {acks: 21, flags: ack}}, []int{0, 2}, nil},
		"the third":                 {[]said{open, {acks: 11, flags: ack}, {acks: 21, flags: ack}, {acks: 31, flags: ack}}, []int{0, 2}, []int{3}},
		"of a segment":              {[]said{open, {acks: 1501, flags: ack}}, []int{0, 1}, nil},
		"again, as after a loss":    {[]said{open, {acks: 1, flags: ack}, {acks: 1, flags: ack}}, []int{0, 1, 2}, nil},
		"of a window, after one":    {[]said{open, {acks: 11, flags: ack}, {acks: 11, flags: ack}}, []int{0, 2}, nil},
		"of what is not in order":   {[]said{open, {acks: 11, flags: ack, options: sack}}, []int{0, 1}, nil},
		"with the end":              {[]said{open, {acks: 11, flags: ack}, {acks: 11, flags: ack | header.TCPFlagFin}}, []int{0, 2}, nil},
		"of nothing that was known": {[]said{{acks: 11, flags: ack}}, []int{0}, nil},
		"around zero":               {[]said{{acks: 0xfffffffe, flags: push, data: "x"}, {acks: 3, flags: ack}}, []int{0}, []int{1}},
		"of a lower number":         {[]said{open, {acks: 0xfffffff0, flags: ack}}, []int{0, 1}, nil},
		"of others": {[]said{open, {acks: 1, flags: ack, port: 1}, {acks: 2, flags: ack}, {acks: 2, flags: ack, port: 1}, {acks: 5, flags: push, data: "x"}},
			[]int{0, 1, 4}, []int{3}},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out sent
				a := newAcks(1500, out.send)
				for i, s := range c.send {
					pkt, f := segment(i, 80+s.port, s.acks, s.flags, s.options, []byte(s.data))
					a.pass(pkt, f)
					pkt.DecRef()
				}
				if got := out.take(); !slices.Equal(got, c.now) {
					t.Errorf("at once %v, want %v", got, c.now)
				}
				time.Sleep(ackTime / 2)
				synctest.Wait()
				if got := out.take(); got != nil {
					t.Errorf("%v is sent before its time", got)
				}
				time.Sleep(2 * ackTime)
				synctest.Wait()
				if got := out.take(); !slices.Equal(got, c.then) {
					t.Errorf("later %v, want %v", got, c.then)
				}
				a.mu.Lock()
				defer a.mu.Unlock()
				if a.ticks {
					t.Error("the clock goes on")
				}
			})
		})
	}
}

// TestAcknowledgementsOfMany has more connections than there is room for: each is acknowledged.
func TestAcknowledgementsOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out sent
		a := newAcks(1500, out.send)
		const many = 4 * ackSlots
		for i := range 2 * many {
			pkt, f := segment(i, uint16(i%many), uint32(1+i/many), header.TCPFlagAck, nil, nil)
			a.pass(pkt, f)
			pkt.DecRef()
		}
		time.Sleep(3 * ackTime)
		synctest.Wait()
		got := out.take()
		slices.Sort(got)
		for i := range 2 * many {
			if i >= len(got) || got[i] != i {
				t.Fatalf("of the segments 0 to %d there were sent %v", 2*many-1, got)
			}
		}
	})
}
