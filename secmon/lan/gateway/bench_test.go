package gateway

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	vnet "warder/devices/virtio/net"
	"warder/secmon/lan"
	"warder/secmon/lan/packet"
)

// caller is a guest with one connection of TCP, which costs next to nothing: it asks
// with a byte, waits for one, and counts what it gets.
type caller struct {
	port     *lan.Port
	own, mac vnet.MAC // the gateway's
	from, to netip.AddrPort
	seq, ack uint32
	frames   int
	answered chan struct{}
}

func (*caller) Queue(*vnet.Frame) int { return 0 }

// Deliver implements net.Receiver. One frame comes at a time.
func (c *caller) Deliver(_ int, f *vnet.Frame, _ int) (int, error) {
	if f.Head[12] == 8 && f.Head[13] == 6 {
		go c.here(slices.Clone(f.Head[6:12]))
		return 0, nil
	}
	ip := header.IPv4(f.Head[etherHeader:])
	if f.Head[12] != 8 || f.Head[13] != 0 || ip.Protocol() != packet.TCP {
		return 0, nil
	}
	c.frames++
	s := header.TCP(ip.Payload())
	n := len(s) - int(s.DataOffset())
	if s.Flags()&header.TCPFlagSyn != 0 {
		n++
	}
	if n > 0 {
		c.ack = s.SequenceNumber() + uint32(n)
		c.answered <- struct{}{}
	}
	return 0, nil
}

// here answers a question of ARP.
func (c *caller) here(to []byte) {
	p := append(append(append([]byte{}, to...), c.own[:]...), 8, 6)
	a := header.ARP(append([]byte{}, make([]byte, header.ARPSize)...))
	a.SetIPv4OverEthernet()
	a.SetOp(header.ARPReply)
	copy(a.HardwareAddressSender(), c.own[:])
	copy(a.ProtocolAddressSender(), c.from.Addr().AsSlice())
	copy(a.HardwareAddressTarget(), to)
	copy(a.ProtocolAddressTarget(), network4.Addr().Next().AsSlice())
	f := new(vnet.Frame)
	f.Fill(append(p, a...))
	c.port.Send(f)
}

// cpuTime is what this process has used of CPUs.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// send sends a segment and waits for the answer.
func (c *caller) send(flags header.TCPFlags, b []byte) {
	const headers = etherHeader + header.IPv4MinimumSize + header.TCPMinimumSize
	p := make([]byte, headers, headers+len(b))
	copy(p, c.mac[:])
	copy(p[6:], c.own[:])
	p[12] = 8
	ip := header.IPv4(p[etherHeader:])
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(p) - etherHeader + len(b)), TTL: 64, Protocol: packet.TCP, SrcAddr: toAddress(c.from.Addr()), DstAddr: toAddress(c.to.Addr())})
	ip.SetChecksum(^ip.CalculateChecksum())
	header.TCP(ip[header.IPv4MinimumSize:]).Encode(&header.TCPFields{SrcPort: c.from.Port(), DstPort: c.to.Port(), SeqNum: c.seq, AckNum: c.ack, DataOffset: header.TCPMinimumSize, Flags: flags, WindowSize: 60000})
	c.seq += uint32(len(b))
	if flags == header.TCPFlagSyn {
		c.seq++
	}
	f := new(vnet.Frame)
	f.Fill(append(p, b...))
	c.port.Send(f)
	<-c.answered
}

// BenchmarkRoundTrip has a byte go to a program outside and back, through the gateway
// and for comparison without it.
func BenchmarkRoundTrip(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	var took time.Duration // there
	var began time.Time
	go func() {
		p := make([]byte, 1)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for {
				if _, err := c.Read(p); err != nil {
					break
				}
				took += time.Since(began)
				if _, err := c.Write(p); err != nil {
					break
				}
			}
			c.Close()
		}
	}()
	b.Run("direct", func(b *testing.B) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		p := make([]byte, 1)
		took = 0
		cpu := cpuTime()
		for b.Loop() {
			began = time.Now()
			if _, err := c.Write(p); err != nil {
				b.Fatal(err)
			}
			if _, err := c.Read(p); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
		b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns-there/op")
	})
	b.Run("gateway", func(b *testing.B) {
		s := lan.New(lan.Config{})
		g, err := New(Config{Switch: s, VLAN: 7, Name: "gateway", Networks: []netip.Prefix{network4}, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return net.Dial("tcp", l.Addr().String())
		}})
		if err != nil {
			b.Fatal(err)
		}
		defer g.Close()
		g.SetEgress(map[string][]Egress{"near": {{Networks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}}})
		a := network4.Addr().Next().Next()
		c := &caller{from: netip.AddrPortFrom(a, 40000), to: netip.MustParseAddrPort("192.0.2.1:7"), own: vnet.MAC{2, 0, 0, 0, 0, 2}, mac: g.mac, answered: make(chan struct{}, 1)}
		if c.port, err = s.AddPort(lan.PortConfig{Name: "near", VLAN: 7, MAC: c.own, Addresses: []netip.Addr{a}}); err != nil {
			b.Fatal(err)
		}
		if err := c.port.Start(c); err != nil {
			b.Fatal(err)
		}
		defer c.port.Stop()
		c.send(header.TCPFlagSyn, nil)
		c.frames, took = 0, 0
		cpu := cpuTime()
		p := []byte{1}
		for b.Loop() {
			began = time.Now()
			c.send(header.TCPFlagAck|header.TCPFlagPsh, p)
		}
		b.ReportMetric(float64(c.frames)/float64(b.N), "frames/op")
		b.ReportMetric(float64((cpuTime()-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
		b.ReportMetric(float64(took.Nanoseconds())/float64(b.N), "ns-there/op")
	})
}
