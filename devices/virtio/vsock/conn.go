package vsock

import (
	"slices"
	"sync"
	"syscall"
	"time"
)

type state uint8

const (
	dialing   state = iota // we asked, the guest has not answered
	accepting              // the guest asked, we have not answered
	open
	over // not in the device's table: the guest knows it no longer
)

// pending are packets that a connection owes the guest.
type pending uint8

const (
	oweRequest pending = 1 << iota
	oweResponse
	oweUpdate
	oweAsk // for credit
)

// maxPeerBuffer bounds what we believe of the guest's buf_alloc, so that counters
// modulo 2^32 stay unambiguous.
const maxPeerBuffer = 1 << 30

// Conn is a stream connection, a net.Conn whose addresses are [Addr]. Every field
// is guarded by the device's mutex.
type Conn struct {
	d     *Device
	ports ports

	state  state
	err    error         // why it is over; nil for an orderly end
	opened chan struct{} // closed when dialing is over
	sent   bool          // the request left for the guest

	closed bool // by our user
	queued bool // in the device's ready list
	linger *time.Timer

	recv    fifo
	recvEnd bool   // the guest said it will not send more
	fwdCnt  uint32 // bytes that left recv
	told    uint32 // fwdCnt as the guest knows it

	send      fifo
	sendEnd   bool   // the guest said it will not receive more
	txCnt     uint32 // bytes sent
	peerFwd   uint32 // of these, bytes that the guest consumed
	peerAlloc uint32 // the guest's buffer

	owe      pending
	asked    bool   // for credit, since we ran out
	shutdown uint32 // flags that our user's closing calls for
	shutSent uint32 // of these, sent

	readable, writable          *sync.Cond
	readDeadline, writeDeadline deadline
}

func (d *Device) newConn(p ports, s state) *Conn {
	c := &Conn{
		d:        d,
		ports:    p,
		state:    s,
		opened:   make(chan struct{}),
		recv:     fifo{limit: bufferSize},
		send:     fifo{limit: bufferSize},
		readable: sync.NewCond(&d.mu),
		writable: sync.NewCond(&d.mu),
	}
	d.conns[p] = c
	d.held++
	return c
}

// accept answers the guest's request.
func (c *Conn) accept() {
	c.state = open
	c.owe |= oweResponse
	close(c.opened)
	c.schedule()
}

// receive takes a packet of the guest for this connection, see [Device.receive].
func (c *Conn) receive(h header, payload []byte, in *chunk) (kept bool) {
	if h.Op == OpReset {
		c.endByReset()
		return false
	}
	if h.Len != 0 && h.Op != OpData || !c.grant(h) {
		c.abort(syscall.EPROTO)
		return false
	}
	switch {
	case h.Op == OpResponse && c.state == dialing:
		c.state = open
		close(c.opened)
	case c.state != open:
		c.abort(syscall.EPROTO)
	case h.Op == OpData:
		kept = c.receiveData(payload, in)
	case h.Op == OpShutdown:
		c.receiveShutdown(h.Flags)
	case h.Op == OpCreditUpdate:
	case h.Op == OpCreditRequest:
		c.owe |= oweUpdate
	default:
		c.abort(syscall.EPROTO)
	}
	c.schedule()
	return kept
}

// grant takes the flow control part of a packet (§5.10.6.3). It reports false when
// the guest claims to have consumed more than it was sent.
func (c *Conn) grant(h header) bool {
	ahead := h.FwdCnt - c.peerFwd
	switch {
	case ahead <= c.txCnt-c.peerFwd:
		c.peerFwd = h.FwdCnt
	case int32(ahead) < 0:
		// Older than what we know: the guest's processors may race each other to the
		// queue with their packets.
	default:
		return false
	}
	c.peerAlloc = min(h.BufAlloc, maxPeerBuffer)
	if c.credit() > 0 {
		c.asked = false
		c.owe &^= oweAsk
	}
	return true
}

// credit is how many more bytes the guest has room for.
func (c *Conn) credit() int {
	used := c.txCnt - c.peerFwd
	if used >= c.peerAlloc {
		return 0
	}
	return int(c.peerAlloc - used)
}

func (c *Conn) receiveData(p []byte, in *chunk) (kept bool) {
	switch {
	case c.recvEnd || len(p) > c.recv.free():
		// Sending after the end, or beyond the credit that we gave.
		c.abort(syscall.EPROTO)
	case c.closed:
		c.fwdCnt += uint32(len(p)) // nobody reads it any more
	case in == nil || len(p) == 0:
		c.recv.write(p)
		c.readable.Broadcast()
	default:
		c.recv.add(part{chunk: in, end: len(p)})
		c.readable.Broadcast()
		return true
	}
	return false
}

func (c *Conn) receiveShutdown(flags uint32) {
	if flags&ShutdownSend != 0 {
		c.recvEnd = true
		c.readable.Broadcast()
	}
	if flags&ShutdownReceive != 0 {
		c.sendEnd = true
		c.send.drop()
		c.writable.Broadcast()
	}
	if c.recvEnd && c.sendEnd {
		// §5.10.6.5: the side that is told of both answers with a reset, and the ports
		// are free. Our user still reads what arrived.
		c.d.reset(c.packet(OpReset))
		c.end(nil)
	}
}

// endByReset takes a reset of the guest.
func (c *Conn) endByReset() {
	switch {
	case c.state == dialing:
		c.end(syscall.ECONNREFUSED)
	case c.closed || c.recvEnd:
		c.end(nil)
	default:
		c.end(syscall.ECONNRESET)
	}
}

// abort resets the connection.
func (c *Conn) abort(err error) {
	if c.state == over {
		return
	}
	if c.sent || c.state != dialing {
		c.d.reset(c.packet(OpReset))
	}
	c.end(err)
}

// end takes the connection out of the table. What it received can still be read.
func (c *Conn) end(err error) {
	if c.state == over {
		return
	}
	if c.state != open {
		close(c.opened)
	}
	c.state, c.err = over, err
	c.owe = 0
	c.send.drop()
	delete(c.d.conns, c.ports)
	if c.queued {
		// Or a guest that takes no packets could leave any number of them in line.
		c.d.ready = slices.DeleteFunc(c.d.ready, func(r *Conn) bool { return r == c })
		c.queued = false
	}
	if c.linger != nil {
		c.linger.Stop()
	}
	if c.closed {
		c.d.held--
	}
	c.readable.Broadcast()
	c.writable.Broadcast()
}
