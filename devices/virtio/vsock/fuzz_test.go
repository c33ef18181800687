package vsock

import (
	"encoding/binary"
	"testing"
)

// A script is a sequence of steps of 12 bytes,
//
//	what(1) ports(1) op(1) flags(1) length(2) fwdCnt(2) bufAlloc(4)
//
// Even values of what are packets of the guest, odd ones what programs on the host
// do; ports picks one of four connections.
const stepSize = 12

const (
	hostRead = iota
	hostWrite
	hostClose
	hostCloseWrite
	hostDial
	hostTake  // the guest's buffers are filled
	hostReset // of the device
	hostTransport
	hostActions
)

func step(what int, ports, op, flags byte, length, fwd uint16, alloc uint32) []byte {
	b := []byte{byte(what), ports, op, flags}
	b = binary.LittleEndian.AppendUint16(b, length)
	b = binary.LittleEndian.AppendUint16(b, fwd)
	return binary.LittleEndian.AppendUint32(b, alloc)
}

func guestStep(ports byte, o Op, flags byte, length, fwd uint16) []byte {
	return step(0, ports, byte(o), flags, length, fwd, 1<<16)
}

func hostStep(action int, ports byte, length uint16) []byte {
	return step(action<<1|1, ports, 0, 0, length, 0, 0)
}

func seeds() [][]byte {
	join := func(steps ...[]byte) (all []byte) {
		for _, s := range steps {
			all = append(all, s...)
		}
		return all
	}
	take := hostStep(hostTake, 0, 4096)
	return [][]byte{
		join(guestStep(0, OpRequest, 0, 0, 0), take, guestStep(0, OpData, 0, 1000, 0), hostStep(hostRead, 0, 5000),
			hostStep(hostWrite, 0, 9000), take, guestStep(0, OpCreditUpdate, 0, 0, 9000), hostStep(hostCloseWrite, 0, 0), take,
			guestStep(0, OpShutdown, 3, 0, 9000), take, hostStep(hostClose, 0, 0)),
		join(hostStep(hostDial, 1, 0), take, guestStep(1, OpResponse, 0, 0, 0), hostStep(hostWrite, 1, 60000),
			step(0, 1, byte(OpCreditUpdate), 0, 0, 0, 10), take, take, guestStep(1, OpCreditRequest, 0, 0, 10), take,
			hostStep(hostClose, 1, 0), take, guestStep(1, OpReset, 0, 0, 10)),
		join(guestStep(2, OpData, 0, 5, 0), take, guestStep(2, OpRequest, 0, 0, 0), guestStep(2, OpRequest, 0, 0, 0), take,
			guestStep(3, OpRequest, 0, 0, 0), guestStep(3, OpData, 0, 65535, 0), guestStep(3, OpData, 0, 65535, 0),
			guestStep(3, OpData, 0, 65535, 0), take),
		join(guestStep(0, OpRequest, 0, 0, 0), guestStep(1, OpRequest, 0, 0, 0), hostStep(hostReset, 0, 0),
			guestStep(0, OpData, 0, 1, 0), hostStep(hostTransport, 0, 0), take, guestStep(0, OpRequest, 0, 0, 7), guestStep(0, 9, 0, 0, 0), take),
	}
}

func FuzzPackets(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		const maxConns = 3
		d := newDevice(t, Config{MaxConns: maxConns})
		r := fuzzRun{t: t, d: d, buf: make([]byte, 64<<10)}
		for port := range uint32(4) {
			if port == 3 {
				break // nobody listens there
			}
			l, err := d.Listen(port)
			if err != nil {
				t.Fatal(err)
			}
			r.listeners = append(r.listeners, l.(*Listener))
		}
		for len(script) >= stepSize {
			s := script[:stepSize]
			script = script[stepSize:]
			r.step(s)
			r.check(maxConns)
		}
		for _, c := range r.conns {
			c.Close()
		}
		d.stop()
		for _, l := range r.listeners {
			l.Close()
		}
		r.check(maxConns)
		if d.held != 0 || len(d.conns) != 0 {
			t.Fatalf("%d connections held, %d in the table at the end", d.held, len(d.conns))
		}
	})
}

// fuzzRun is a script at work. Nothing in it blocks.
type fuzzRun struct {
	t         *testing.T
	d         *Device
	listeners []*Listener
	conns     []*Conn // in the hands of host programs
	buf       []byte
}

func (r *fuzzRun) step(s []byte) {
	le := binary.LittleEndian
	what, ports := s[0], uint32(s[1]%4)
	length, fwd, alloc := le.Uint16(s[4:]), le.Uint16(s[6:]), le.Uint32(s[8:])
	if what&1 == 0 {
		h := header{
			SrcCID: testCID + uint64(what>>6), DstCID: HostCID, SrcPort: 1000 + ports, DstPort: ports,
			Type: typeStream, Op: Op(s[2]), Flags: uint32(s[3]), Len: uint32(length), BufAlloc: alloc, FwdCnt: uint32(fwd),
		}
		if what&0x10 != 0 {
			h.DstPort = r.d.lastPort // of a connection that the host made
		}
		if c := newChunk(); !r.d.receive(new(Packet), h, c.bytes[:length], c) {
			c.give()
		}
		for _, l := range r.listeners {
			select {
			case c := <-l.backlog:
				r.conns = append(r.conns, c)
			default:
			}
		}
		return
	}
	action := int(what>>1) % hostActions
	switch action {
	case hostDial:
		if c, err := r.d.dial(1000 + ports); err == nil {
			r.conns = append(r.conns, c)
		}
		return
	case hostTake:
		r.take(int(length))
		return
	case hostReset:
		r.d.stop()
		r.d.start()
		return
	case hostTransport:
		r.d.ResetTransport()
		return
	}
	if len(r.conns) == 0 {
		return
	}
	i := int(ports) % len(r.conns)
	c := r.conns[i]
	switch action {
	case hostRead:
		if c.recv.n > 0 {
			c.Read(r.buf[:length])
		}
	case hostWrite:
		c.Write(r.buf[:min(int(length), c.send.free())])
	case hostClose:
		c.Close()
		r.conns = append(r.conns[:i], r.conns[i+1:]...)
	case hostCloseWrite:
		c.CloseWrite()
	}
}

// take fills one buffer of the guest after the other until there is nothing to send.
func (r *fuzzRun) take(room int) {
	room = max(room, 1)
	for range 1000 {
		credit := map[ports]int{}
		for p, c := range r.d.conns {
			credit[p] = c.credit()
		}
		h, _, ok := r.d.next(room)
		if !ok {
			return
		}
		n := h.payload.len()
		h.payload.give()
		p := ports{guest: h.DstPort, host: h.SrcPort}
		if h.Op == OpData && (n == 0 || n > credit[p]) || h.Op != OpData && n != 0 || int(h.Len) != n || n > room {
			r.t.Fatalf("packet %+v with %d bytes in %d, credit %d", h, n, room, credit[p])
		}
	}
}

func (r *fuzzRun) check(maxConns int) {
	d := r.d
	if len(d.conns) > d.held || d.held > maxConns || len(d.refusals) > maxRefusals || len(d.ready) > len(d.conns) {
		r.t.Fatalf("%d connections of %d held, %d refusals, %d ready", len(d.conns), d.held, len(d.refusals), len(d.ready))
	}
	for p, c := range d.conns {
		if c.ports != p || c.state == over {
			r.t.Fatalf("connection %+v in state %d stands for %+v", c.ports, c.state, p)
		}
		for _, f := range []*fifo{&c.recv, &c.send} {
			if f.n > bufferSize || len(f.parts) > 2*bufferSize/chunkSize+1 {
				r.t.Fatalf("connection %+v has %d bytes in %d chunks", p, f.n, len(f.parts))
			}
		}
		if c.hasOutput() && !c.queued {
			r.t.Fatalf("connection %+v has output and is not in line", p)
		}
	}
}
