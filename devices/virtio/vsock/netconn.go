package vsock

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

var _ net.Conn = (*Conn)(nil)

// LocalAddr is the host's end.
func (c *Conn) LocalAddr() net.Addr { return c.local() }

// RemoteAddr is the guest's end.
func (c *Conn) RemoteAddr() net.Addr { return c.remote() }

func (c *Conn) local() Addr  { return Addr{CID: HostCID, Port: c.ports.host} }
func (c *Conn) remote() Addr { return Addr{CID: c.d.cid, Port: c.ports.guest} }

// Read returns what the guest sent, io.EOF after its orderly end, and otherwise an
// error that wraps the reason: syscall.ECONNRESET, syscall.EPROTO when the guest
// broke the protocol, [ErrReset], net.ErrClosed or os.ErrDeadlineExceeded.
func (c *Conn) Read(p []byte) (int, error) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if err := c.await(len(p) == 0); err != nil || len(p) == 0 {
		return 0, err
	}
	n := c.recv.read(p)
	c.forwarded(n)
	return n, nil
}

// WriteTo implements io.WriterTo: it writes what the guest sends, as it comes, until the
// guest's orderly end. Its other errors are those of Read and of w. What w failed to
// take is lost.
func (c *Conn) WriteTo(w io.Writer) (total int64, err error) {
	for {
		p, err := c.take()
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err := w.Write(p.bytes())
		total += int64(n)
		c.giveBack(p)
		if err != nil {
			return total, err
		}
	}
}

// take takes what the guest sent first out of the buffer, as soon as there is something.
func (c *Conn) take() (part, error) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if err := c.await(false); err != nil {
		return part{}, err
	}
	return c.recv.take(), nil
}

func (c *Conn) giveBack(p part) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	c.forwarded(len(p.bytes()))
	c.recv.giveBack(p)
}

// await waits until there is something to read. With only it does not, and says why
// there cannot be.
func (c *Conn) await(only bool) error {
	for {
		switch {
		case c.closed:
			return c.opError("read", net.ErrClosed)
		case c.readDeadline.passed:
			return c.opError("read", os.ErrDeadlineExceeded)
		case only || c.recv.n > 0:
			return nil
		case c.recvEnd:
			return io.EOF
		case c.state == over:
			return c.opError("read", c.reason())
		}
		c.readable.Wait()
	}
}

// forwarded notes that n bytes have left the buffer, and tells the guest when that is
// worth a packet.
func (c *Conn) forwarded(n int) {
	c.fwdCnt += uint32(n)
	if c.state == open && !c.recvEnd && !c.closed && c.fwdCnt-c.told >= bufferSize/2 {
		c.owe |= oweUpdate
		c.schedule()
	}
}

// Write returns once p is in the connection's buffer, and otherwise how much of it
// is and an error that wraps the reason: those of Read, or syscall.EPIPE when the
// guest takes no more or CloseWrite was called.
func (c *Conn) Write(p []byte) (int, error) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	total := 0
	for {
		if err := c.writeError(); err != nil {
			return total, err
		}
		n := c.send.write(p[total:])
		total += n
		if n > 0 {
			c.schedule()
		}
		if total == len(p) {
			return total, nil
		}
		c.writable.Wait()
	}
}

// writeError is why there cannot be written, nil if there can.
func (c *Conn) writeError() error {
	switch {
	case c.closed:
		return c.opError("write", net.ErrClosed)
	case c.writeDeadline.passed:
		return c.opError("write", os.ErrDeadlineExceeded)
	case c.sendEnd || c.shutdown&ShutdownSend != 0:
		return c.opError("write", syscall.EPIPE)
	case c.state == over:
		return c.opError("write", c.reason())
	}
	return nil
}

// ReadFrom implements io.ReaderFrom: it writes what r gives, as it comes, until r's end. Its
// errors are those of Write and of r.
func (c *Conn) ReadFrom(r io.Reader) (total int64, err error) {
	in := newSource(r)
	for {
		// Nothing is read as long as there is no room for it: it would be lost.
		if err := c.awaitRoom(); err != nil {
			return total, err
		}
		p, err := in.next()
		if err := c.put(p); err != nil {
			return total, err
		}
		total += int64(p.len())
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// awaitRoom waits until there is room for a chunk.
func (c *Conn) awaitRoom() error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	return c.roomFor(chunkSize)
}

// put puts p into the connection's buffer as soon as there is room, or gives it back.
func (c *Conn) put(p part) error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if err := c.roomFor(p.len()); err != nil {
		p.give()
		return err
	}
	c.send.add(p)
	c.schedule()
	return nil
}

// roomFor waits until there is room for n bytes. The caller holds the lock.
func (c *Conn) roomFor(n int) error {
	for {
		if err := c.writeError(); err != nil || c.send.free() >= n {
			return err
		}
		c.writable.Wait()
	}
}

// CloseWrite tells the guest that nothing follows what was written so far.
func (c *Conn) CloseWrite() error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	switch {
	case c.closed:
		return c.opError("close", net.ErrClosed)
	case c.state == over || c.sendEnd:
		return c.opError("close", syscall.ENOTCONN)
	}
	c.shutdown |= ShutdownSend
	c.schedule()
	c.writable.Broadcast()
	return nil
}

// Close ends the connection in both directions. What was written is still sent, in
// the background, for as long as [closeTimeout].
func (c *Conn) Close() error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if c.closed {
		return c.opError("close", net.ErrClosed)
	}
	c.closed = true
	c.fwdCnt += uint32(c.recv.n)
	c.recv.drop()
	c.readDeadline.stop()
	c.writeDeadline.stop()
	c.readable.Broadcast()
	c.writable.Broadcast()
	switch c.state {
	case over:
		c.d.held--
	case open:
		c.shutdown = ShutdownBoth
		c.linger = time.AfterFunc(closeTimeout, c.expire)
		c.schedule()
	default:
		c.abort(net.ErrClosed)
	}
	return nil
}

// expire gives up on a guest that does not take the rest of a closed connection.
func (c *Conn) expire() {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	c.abort(os.ErrDeadlineExceeded)
}

// SetDeadline sets both deadlines; the zero time means none.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline is the time after which Read fails, a blocked one included.
func (c *Conn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(&c.readDeadline, c.readable, t)
}

// SetWriteDeadline is the time after which Write fails, a blocked one included.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(&c.writeDeadline, c.writable, t)
}

// deadline is a time that wakes those who wait on a condition.
type deadline struct {
	passed bool
	timer  *time.Timer
}

func (l *deadline) stop() {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.timer = nil
}

func (c *Conn) setDeadline(l *deadline, cond *sync.Cond, t time.Time) error {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if c.closed {
		return c.opError("set", net.ErrClosed)
	}
	l.stop()
	l.passed = false
	if t.IsZero() {
		return nil
	}
	left := time.Until(t)
	if left <= 0 {
		l.passed = true
		cond.Broadcast()
		return nil
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		c.d.mu.Lock()
		defer c.d.mu.Unlock()
		if l.timer != timer {
			return // set anew while this was about to run
		}
		l.passed = true
		cond.Broadcast()
	})
	l.timer = timer
	return nil
}

// reason is why a connection that is over fails.
func (c *Conn) reason() error {
	if c.err == nil {
		return syscall.ECONNRESET
	}
	return c.err
}

func (c *Conn) opError(operation string, err error) error {
	return &net.OpError{Op: operation, Net: "vsock", Source: c.local(), Addr: c.remote(), Err: err}
}
