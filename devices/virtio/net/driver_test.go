package net

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"sync"
	"testing"

	"warder/devices/virtio"
	"warder/devices/virtio/virtqtest"
)

var testMAC = MAC{2, 0, 0, 0, 0, 1}

// port is a port that keeps what is sent, and releases it unless told otherwise.
type port struct {
	mu     sync.Mutex
	frames []Frame // copies
	held   []*Frame
	hold   bool
	guest  Receiver
	ready  chan int
	takes  []Offloads
	limit  Offloads
}

func newPort() *port { return &port{ready: make(chan int, 1000), limit: AllOffloads} }

func (p *port) Start(r Receiver) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.guest = r
	return nil
}

func (p *port) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.guest = nil
	for _, f := range p.held {
		f.Release()
	}
	p.held = nil
}

func (p *port) Ready(queue int) { p.ready <- queue }

func (p *port) Takes() Offloads { return p.limit }

func (p *port) SetOffloads(o Offloads) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.takes = append(p.takes, o)
}

func (p *port) Send(f *Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := Frame{Offload: f.Offload, Queue: f.Queue, Len: f.Len, Head: bytes.Clone(f.Head), Body: [][]byte{content(f)[len(f.Head):]}}
	p.frames = append(p.frames, c)
	if p.hold {
		p.held = append(p.held, f)
		return
	}
	f.Release()
}

// sent is what was sent since the last call.
func (p *port) sent() []Frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.frames
	p.frames = nil
	return f
}

func content(f *Frame) []byte {
	b := bytes.Clone(f.Head)
	for _, p := range f.Body {
		b = append(b, p...)
	}
	return b
}

// driver is a guest's driver.
type driver struct {
	*virtqtest.Driver
	t testing.TB
}

func newDevice(t testing.TB, cfg Config) *Device {
	t.Helper()
	if cfg.MAC == (MAC{}) {
		cfg.MAC = testMAC
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// start brings d up with all features that it offers but without.
func start(t testing.TB, d *Device, without uint64) driver {
	t.Helper()
	dr := driver{virtqtest.NewDriver(t, d), t}
	dr.restart(d, without)
	return dr
}

func (d driver) restart(dev *Device, without uint64) {
	d.t.Helper()
	d.Start(dev.Info().Features&^without | virtio.FEventIdx | virtio.FIndirectDesc)
	for !dev.rx[0].running() { // the device starts beside the driver
		runtime.Gosched()
	}
}

const rx0, tx0 = 0, 1

// send sends a frame with its header and waits until it has been dealt with.
func (d driver) send(queue int, h [HeaderSize]byte, pieces ...[]byte) {
	d.t.Helper()
	bufs := []virtqtest.Buffer{{Data: h[:]}}
	for _, p := range pieces {
		bufs = append(bufs, virtqtest.Buffer{Data: p})
	}
	d.Rings[queue].Add(bufs...)
	if a := d.Answer(queue); a.Written != 0 {
		d.t.Errorf("the device wrote %d bytes to a frame of the guest", a.Written)
	}
}

// offer gives the device n receive buffers of size bytes.
func (d driver) offer(queue, n, size int) {
	for range n {
		d.Rings[queue].Add(virtqtest.Buffer{Room: size})
	}
	d.Kick(queue)
}

// received is the next frame that the guest gets, which may be in several buffers.
func (d driver) received(queue int) (h [HeaderSize]byte, frame []byte) {
	d.t.Helper()
	a := d.Answer(queue)
	if a.Written < HeaderSize {
		d.t.Fatalf("%d bytes for the guest", a.Written)
	}
	h = [HeaderSize]byte(a.Room)
	frame = a.Room[HeaderSize:a.Written]
	for n := binary.LittleEndian.Uint16(h[offNumBuffers:]); n > 1; n-- {
		// All buffers of a frame appear at once.
		more, ok := d.Rings[queue].Take()
		if !ok {
			d.t.Fatalf("%d buffers of a frame are missing", n-1)
		}
		frame = append(frame, more.Room[:more.Written]...)
	}
	return h, frame
}

// nothing makes sure that the guest has got no frame.
func (d driver) nothing(queue int) {
	d.t.Helper()
	if a, ok := d.Rings[queue].Take(); ok {
		d.t.Errorf("the guest got %d bytes", a.Written)
	}
}

// packet makes frames of TCP and UDP.
type packet struct {
	v6      bool
	tags    int
	proto   uint8
	options int // bytes of TCP options, of IPv4 options, of an IPv6 extension header
	flags   uint8
	payload []byte
	id      uint16
	seq     uint32
	to      MAC
	port    uint16
}

func (p packet) bytes() []byte {
	if p.to == (MAC{}) {
		p.to = testMAC
	}
	b := append([]byte{}, p.to[:]...)
	b = append(b, 2, 0, 0, 0, 0, 9)
	for range p.tags {
		b = append(b, 0x81, 0, 0, 7)
	}
	l4 := udpHeader
	if p.proto == protoTCP {
		l4 = tcpHeader + p.options
	}
	l4 += len(p.payload)
	if p.v6 {
		b = append(b, 0x86, 0xdd, 0x60, 0, 0, 0)
		next := p.proto
		if p.options > 0 {
			next = destination
		}
		b = binary.BigEndian.AppendUint16(b, uint16(l4+p.options))
		b = append(b, next, 64)
		b = append(b, bytes.Repeat([]byte{0xfd, 1, 2, 3}, 4)...)
		b = append(b, bytes.Repeat([]byte{0xfe, 4, 5, 6}, 4)...)
		if p.options > 0 {
			b = append(append(b, p.proto, uint8(p.options/8-1)), make([]byte, p.options-2)...)
		}
	} else {
		ip := []byte{0x40 | uint8(5+p.options/4), 0}
		ip = binary.BigEndian.AppendUint16(ip, uint16(ipv4Header+p.options+l4))
		ip = binary.BigEndian.AppendUint16(ip, p.id)
		ip = append(ip, 0x40, 0, 64, p.proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
		ip = append(ip, make([]byte, p.options)...)
		binary.BigEndian.PutUint16(ip[10:], ^naive(ip))
		b = append(append(b, 8, 0), ip...)
	}
	b = binary.BigEndian.AppendUint16(b, 40000+p.port)
	b = binary.BigEndian.AppendUint16(b, 443)
	if p.proto == protoTCP {
		b = binary.BigEndian.AppendUint32(b, p.seq)
		b = append(b, 0, 0, 0, 9, uint8(5+p.options/4)<<4, p.flags, 1, 2, 0, 0, 0, 0)
		b = append(b, make([]byte, p.options)...)
	} else {
		b = binary.BigEndian.AppendUint16(b, uint16(l4))
		b = append(b, 0, 0)
	}
	return append(b, p.payload...)
}

// naive is the sum of RFC 1071, done as it is described there.
func naive(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		if sum += w; sum > 0xffff {
			sum -= 0xffff
		}
	}
	return uint16(sum)
}

// where the parts of the packet begin.
func (p packet) l3() int { return etherHeader + 4*p.tags }
func (p packet) l4() int {
	if p.v6 {
		return p.l3() + ipv6Header + p.options
	}
	return p.l3() + ipv4Header + p.options
}
func (p packet) field() int {
	if p.proto == protoTCP {
		return tcpCsum
	}
	return udpCsum
}
func (p packet) headers() int { return len(p.bytes()) - len(p.payload) }

// pseudoSum is the sum of the pseudo header for the packet b.
func (p packet) pseudoSum(b []byte) uint16 {
	l3, n := p.l3(), len(b)-p.l4()
	pseudo := bytes.Clone(b[l3+12 : l3+20])
	if p.v6 {
		pseudo = bytes.Clone(b[l3+8 : l3+40])
	}
	return naive(append(pseudo, 0, p.proto, 0, uint8(n>>16), uint8(n>>8), uint8(n)))
}

// partial is the packet with its checksum left to be done, and the header that says
// so.
func (p packet) partial() (h [HeaderSize]byte, b []byte) {
	b = p.bytes()
	binary.BigEndian.PutUint16(b[p.l4()+p.field():], p.pseudoSum(b))
	o := Offload{NeedsCsum: true, CsumStart: uint16(p.l4()), CsumOffset: uint16(p.field())}
	return o.Header(0), b
}

// valid reports whether the checksums of a packet of p's kind are right.
func (p packet) valid(b []byte) bool {
	if !p.v6 && naive(b[p.l3():p.l4()]) != 0xffff {
		return false
	}
	sum := uint32(p.pseudoSum(b)) + uint32(naive(b[p.l4():]))
	return sum == 0xffff || sum == 2*0xffff
}

// buffers are pieces of a chain for the device to read.
func buffers(pieces ...[]byte) (b []virtqtest.Buffer) {
	for _, p := range pieces {
		b = append(b, virtqtest.Buffer{Data: p})
	}
	return b
}
