package vsock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// bufferSize is what the device holds for a connection in each direction, in
	// bytes: the buf_alloc that it advertises. Linux sends packets of 64 KiB, of which
	// several are on their way then, for one doorbell; its own vhost has as much.
	bufferSize = 256 << 10
	// maxRefusals bounds the resets that wait for room in the guest's receive queue.
	// More are dropped: the guest's own time-outs then do their work.
	maxRefusals = 256
	// closeTimeout is how long a closed connection waits for the guest to take what
	// was written to it.
	closeTimeout = 10 * time.Second

	defaultMaxConns = 512

	minGuestCID = 3
	anyCID      = 1<<32 - 1 // VMADDR_CID_ANY
)

var (
	// ErrNotReady says that the guest's vsock driver is not running: not yet, or no
	// longer.
	ErrNotReady = errors.New("the guest's vsock driver is not running")
	// ErrReset ends the connections of a guest that reset the device; it is also a
	// syscall.ECONNRESET.
	ErrReset = fmt.Errorf("the vsock device was reset: %w", syscall.ECONNRESET)
	// ErrTooMany says that [Config].MaxConns connections are open.
	ErrTooMany = errors.New("too many vsock connections")
)

// Config describes a device.
type Config struct {
	// CID is the guest's address, 3 or above.
	CID uint32
	// Dir is where the Unix sockets are; it must exist. Empty: none.
	Dir string
	// MaxConns bounds the open connections. Zero: 512.
	MaxConns int
	// Watcher sees all packets. Nil: nobody does.
	Watcher Watcher
	// Log takes what an operator should know. Nil: slog.Default().
	Log *slog.Logger
}

// Device is a virtio socket device. Its methods may be called from any goroutine.
type Device struct {
	cid      uint32
	log      *slog.Logger
	maxConns int
	watcher  Watcher  // nil: none
	sockets  *sockets // nil: no Unix sockets
	dropped  atomic.Uint64

	output chan struct{} // there is something for the guest; capacity 1
	events chan struct{} // a transport reset is to be announced; capacity 1

	mu        sync.Mutex
	running   bool // the guest's driver is there
	closed    bool
	conns     map[ports]*Conn
	held      int // connections in conns, or not yet closed by their owner
	listeners map[uint32]*Listener
	lastPort  uint32
	ready     []*Conn  // connections with something to send, in turn
	refusals  []header // resets to send for no connection of ours
	refused   bool     // the last packet was one of refusals
}

// ports names a connection: the guest's CID and the host's never change.
type ports struct{ guest, host uint32 }

// New makes a device and, with a Dir, its Unix socket. The device owns the socket
// until Close.
func New(cfg Config) (*Device, error) {
	if cfg.CID < minGuestCID || cfg.CID == anyCID {
		return nil, fmt.Errorf("vsock: CID %d is reserved, use one from %d to %d", cfg.CID, minGuestCID, uint32(anyCID-1))
	}
	if cfg.MaxConns < 0 {
		return nil, fmt.Errorf("vsock: MaxConns is %d, it cannot be negative", cfg.MaxConns)
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = defaultMaxConns
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	d := &Device{
		cid:       cfg.CID,
		log:       cfg.Log,
		maxConns:  cfg.MaxConns,
		watcher:   cfg.Watcher,
		output:    make(chan struct{}, 1),
		events:    make(chan struct{}, 1),
		conns:     make(map[ports]*Conn),
		listeners: make(map[uint32]*Listener),
	}
	if cfg.Dir != "" {
		s, err := listenUnix(d, cfg.Dir)
		if err != nil {
			return nil, err
		}
		d.sockets = s
	}
	return d, nil
}

// CID is the guest's address.
func (d *Device) CID() uint32 { return d.cid }

// Dropped counts the guest's packets that made no sense, were not for the host or
// had an answer for which there was no room.
func (d *Device) Dropped() uint64 { return d.dropped.Load() }

// ReadConfig reads the configuration space, §5.10.4: the guest's CID as 64 bits.
func (d *Device) ReadConfig(p []byte, off uint64) {
	var space [8]byte
	binary.LittleEndian.PutUint64(space[:], uint64(d.cid))
	clear(p)
	if off < uint64(len(space)) {
		copy(p, space[off:])
	}
}

// ResetTransport ends all connections and tells the guest that they are gone, that
// its CID may be another and that its listeners stay (§5.10.6.7): what a guest must
// know after it was restored from a snapshot.
func (d *Device) ResetTransport() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endAll(ErrReset)
	if d.running {
		signal(d.events)
	}
}

// Close ends all connections and listeners and removes the Unix socket. It does not
// end Run.
func (d *Device) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.endAll(ErrReset)
	for _, l := range d.listeners {
		l.end()
	}
	d.mu.Unlock()
	if d.sockets != nil {
		return d.sockets.close()
	}
	return nil
}

// start notes that the guest's driver is there.
func (d *Device) start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = true
}

// stop notes that the driver is gone, and with it all connections.
func (d *Device) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = false
	d.endAll(ErrReset)
	select { // an announcement for the old driver is none for the next
	case <-d.events:
	default:
	}
}

// endAll ends every connection without a word to the guest.
func (d *Device) endAll(err error) {
	for _, c := range d.conns {
		c.end(err)
	}
	d.ready, d.refusals = nil, nil
	if d.watcher != nil {
		d.watcher.Reset()
	}
}

// receive takes one packet of the guest. The payload is good until it returns; if it is at
// the start of a chunk it may keep that. w is room for the watcher's view.
func (d *Device) receive(w *Packet, h header, payload []byte, in *chunk) (kept bool) {
	if h.SrcCID != uint64(d.cid) {
		d.dropped.Add(1) // §5.10.6.4.1: not a packet of this guest
		return false
	}
	if !d.passes(w, h, payload, ports{guest: h.SrcPort, host: h.DstPort}) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.DstCID != HostCID || h.Type != typeStream {
		d.refuse(h)
		return false
	}
	c := d.conns[ports{guest: h.SrcPort, host: h.DstPort}]
	if c != nil && c.closed && h.Op == OpRequest {
		// The guest is done with a connection that still waits for it, and has given
		// its port to another.
		c.end(ErrReset)
		c = nil
	}
	switch {
	case c != nil:
		return c.receive(h, payload, in)
	case h.Op == OpRequest:
		d.request(h)
	default:
		d.refuse(h)
	}
	return false
}

// request takes a connection that the guest wants to make.
func (d *Device) request(h header) {
	l := d.listeners[h.DstPort]
	if d.closed || h.Len != 0 || h.FwdCnt != 0 || d.held >= d.maxConns || (l == nil && d.sockets == nil) {
		d.refuse(h)
		return
	}
	if l != nil && len(l.backlog) == cap(l.backlog) {
		d.refuse(h)
		return
	}
	// A reset still queued for an earlier connection of these ports would kill this one.
	stale := header{SrcCID: h.DstCID, DstCID: h.SrcCID, SrcPort: h.DstPort, DstPort: h.SrcPort, Type: h.Type, Op: OpReset}
	d.refusals = slices.DeleteFunc(d.refusals, func(r header) bool { return r == stale })

	c := d.newConn(ports{guest: h.SrcPort, host: h.DstPort}, accepting)
	c.grant(h)
	if l != nil {
		c.accept()
		l.backlog <- c // there is room, and only this code fills it, under the lock
		return
	}
	d.sockets.forward(c)
}

// refuse answers a packet with a reset, except a reset (§5.10.6.4.1 knows no others).
func (d *Device) refuse(h header) {
	if h.Op == OpReset {
		return
	}
	d.reset(h.refusal())
}

func (d *Device) reset(r header) {
	if slices.Contains(d.refusals, r) {
		return
	}
	if len(d.refusals) == maxRefusals {
		d.dropped.Add(1)
		return
	}
	d.refusals = append(d.refusals, r)
	signal(d.output)
}

// hasOutput reports whether next is likely to have something.
func (d *Device) hasOutput() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.refusals)+len(d.ready) > 0
}

// outgoing is a packet for the guest. Whoever has it gives its payload back.
type outgoing struct {
	header
	payload part
}

// next makes the next packet for the guest with up to n bytes of payload, or reports that
// there is none, and whether it is likely to have more. Resets and connections take turns,
// and so do the connections among themselves.
func (d *Device) next(n int) (p outgoing, more, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !ok && len(d.refusals)+len(d.ready) > 0 {
		d.refused = len(d.refusals) > 0 && (!d.refused || len(d.ready) == 0)
		if d.refused {
			p, ok = outgoing{header: d.refusals[0]}, true
			d.refusals = slices.Delete(d.refusals, 0, 1)
			continue
		}
		c := d.ready[0]
		p, ok = c.emit(n)
		d.ready = slices.Delete(d.ready, 0, 1)
		c.queued = false
		c.queue()
	}
	return p, len(d.refusals)+len(d.ready) > 0, ok
}

// signal makes the channel of capacity 1 ready.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
