package console

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"warder/devices/meter"
	"warder/devices/virtio/virtq"
)

// A Port is one port of a [Multiport]. What the host sends waits until somebody
// in the guest has opened the port; what the guest sends while nobody is connected
// here is lost, though Linux has who writes wait.
type Port struct {
	name     string
	terminal bool
	news     chan<- struct{} // holds a value when something is owed

	mu         sync.Mutex
	conn       *conn         // nil while nobody is connected
	open       bool          // in the guest
	changed    chan struct{} // closed with the next change of the two
	ready      bool          // the driver has found it
	owed       owed
	cols, rows uint16
	resized    func() // of the device's configuration, which the first port is in
	closed     bool
}

// conn is the host's end of a port.
type conn struct {
	rw   io.ReadWriteCloser
	in   *input
	out  *output
	ctx  context.Context // ends with the connection
	stop context.CancelFunc
}

// Errors of Connect.
var (
	errConnected = errors.New("console: somebody is connected to the port")
	errClosed    = errors.New("console: the port is gone with its machine")
)

// Connect lets the port's host side be rw, until reading from it ends, and
// returns a channel that is closed then. The guest is told of both. It closes rw,
// also when it fails.
func (p *Port) Connect(rw io.ReadWriteCloser) (<-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, errors.Join(errClosed, rw.Close())
	case p.conn != nil:
		return nil, errors.Join(errConnected, rw.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	p.conn = &conn{rw, newInput(rw), newOutput(rw), ctx, stop}
	p.connectionChanged()
	return ctx.Done(), nil
}

// disconnect ends c, if it is the port's connection still.
func (p *Port) disconnect(c *conn) error {
	p.mu.Lock()
	if c == nil || p.conn != c {
		p.mu.Unlock()
		return nil
	}
	p.conn = nil
	p.connectionChanged()
	p.mu.Unlock()
	c.in.close()
	err := errors.Join(c.out.close(), c.rw.Close())
	c.stop()
	return err
}

// connectionChanged has the driver told. The caller holds mu.
func (p *Port) connectionChanged() {
	p.change()
	if p.ready {
		p.owed |= owedOpen
		signal(p.news)
	}
}

// change wakes whoever waits for one. The caller holds mu.
func (p *Port) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// SetSize tells the guest the size of the terminal at a port that is one.
func (p *Port) SetSize(cols, rows uint16) {
	p.mu.Lock()
	p.cols, p.rows = cols, rows
	if p.ready && p.terminal {
		p.owed |= owedSize
		signal(p.news)
	}
	resized := p.resized
	p.mu.Unlock()
	if resized != nil {
		resized()
	}
}

func (p *Port) size() (cols, rows uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cols, p.rows
}

// Open reports whether somebody in the guest has the port open.
func (p *Port) Open() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

func (p *Port) setOpen(open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open = open
	p.change()
}

// restart forgets what a former driver knew. One that knows of no ports has the
// first one open.
func (p *Port) restart(open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready, p.open, p.owed = false, open, 0
	p.change()
}

func (p *Port) owe(o owed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owed |= o
	signal(p.news)
}

// found is the driver's word that it has the port; it wants to know the rest.
func (p *Port) found() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready = true
	p.owed |= owedName
	if p.terminal {
		p.owed |= owedConsole
		if p.cols != 0 {
			p.owed |= owedSize
		}
	}
	if p.conn != nil {
		p.owed |= owedOpen
	}
	signal(p.news)
}

func (p *Port) isOwed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.owed != 0
}

// pay is the next thing owed, event 0 if there is none. A size has columns first,
// as section 5.3.6.2 has it and Linux since 6.15; before, Linux mixed them up.
func (p *Port) pay() (event, value uint16, more []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.owed & -p.owed // the lowest
	p.owed &^= o
	switch o {
	case owedAdd:
		return eventPortAdd, 1, nil
	case owedConsole:
		return eventConsolePort, 1, nil
	case owedName:
		return eventPortName, 1, []byte(p.name)
	case owedSize:
		more = binary.LittleEndian.AppendUint16(nil, p.cols)
		return eventResize, 0, binary.LittleEndian.AppendUint16(more, p.rows)
	case owedOpen:
		if p.conn != nil {
			value = 1
		}
		return eventPortOpen, value, nil
	}
	return 0, 0, nil
}

// state is the connection, whether the guest would take anything from it, and
// what tells of a change.
func (p *Port) state() (c *conn, open bool, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn, p.open, p.changed
}

// receive gives the guest what the host sends.
func (p *Port) receive(ctx context.Context, q *virtq.Queue) error {
	for {
		room, err := q.Next(ctx)
		if err != nil {
			return err
		}
		c, err := p.awaitInput(ctx)
		if err != nil {
			return err // a chain that is held while ctx ends goes with the queue
		}
		n, err := room.Writer.Write(c.in.take(room.Writer.Len()))
		if err != nil {
			return err
		}
		if err := q.Push(room, uint32(n)); err != nil {
			return err
		}
	}
}

// awaitInput waits for a connection that has sent something which the guest would
// take. A connection that has ended is let go of when all it sent has been taken.
func (p *Port) awaitInput(ctx context.Context) (*conn, error) {
	for {
		c, open, changed := p.state()
		var ready, drained <-chan struct{}
		if c != nil && open {
			ready, drained = c.in.ready, c.in.drained
		}
		var came, gone bool
		meter.Of(ctx).Idle(func() {
			select {
			case <-ready:
				came = true
			case <-drained:
				gone = true
			case <-changed:
			case <-ctx.Done():
			}
		})
		switch {
		case came:
			c.in.ready <- struct{}{}
			return c, nil
		case gone:
			_ = p.disconnect(c) // whoever was there is gone
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		}
	}
}

// transmit gives the host what the guest sends.
func (p *Port) transmit(ctx context.Context, q *virtq.Queue) error {
	for {
		request, err := q.Next(ctx)
		if err != nil {
			return err
		}
		if c, _, _ := p.state(); c != nil {
			both, cancel := context.WithCancel(ctx)
			stop := context.AfterFunc(c.ctx, cancel)
			err = c.out.print(both, request.Reader)
			stop()
			cancel()
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil && c.ctx.Err() == nil {
				return err
			}
		}
		if err := q.Push(request, 0); err != nil {
			return err
		}
	}
}

func (p *Port) close() error {
	p.mu.Lock()
	p.closed = true
	c := p.conn
	p.mu.Unlock()
	return p.disconnect(c)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
