package vsock

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestHalfClose(t *testing.T) {
	p := peer{t, newDevice(t, Config{})}
	c := p.connect(1000, 9)
	io.WriteString(c, "last words")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	p.expect(
		sent{Op: OpData, Guest: 1000, Host: 9, Data: "last words"},
		sent{Op: OpShutdown, Guest: 1000, Host: 9, Flags: ShutdownSend},
	)
	if _, err := io.WriteString(c, "more"); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write after CloseWrite: %v", err)
	}
	p.send(p.packet(OpData, 1000, 9), "the answer")
	h := p.packet(OpShutdown, 1000, 9)
	h.Flags = ShutdownBoth
	p.send(h, "")
	p.expect(sent{Op: OpReset, Guest: 1000, Host: 9})
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "the answer" {
		t.Errorf("read %q, %v", got, err)
	}
	c.Close()
	if p.expect(); p.d.held != 0 {
		t.Errorf("%d connections held", p.d.held)
	}
}

func TestGuestStopsReading(t *testing.T) {
	p := peer{t, newDevice(t, Config{})}
	c := p.connect(1000, 9)
	h := p.packet(OpShutdown, 1000, 9)
	h.Flags = ShutdownReceive
	p.send(h, "")
	if _, err := io.WriteString(c, "x"); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write: %v, want EPIPE", err)
	}
	p.send(p.packet(OpData, 1000, 9), "still talking")
	p.send(p.packet(OpReset, 1000, 9), "")
	got, err := io.ReadAll(c)
	if !errors.Is(err, syscall.ECONNRESET) || string(got) != "still talking" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := peer{t, newDevice(t, Config{})}
		c := p.connect(1000, 9)
		io.WriteString(c, "rest")
		c.Close()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
		p.send(p.packet(OpData, 1000, 9), "nobody hears this")
		p.expect(
			sent{Op: OpData, Guest: 1000, Host: 9, Data: "rest"},
			sent{Op: OpShutdown, Guest: 1000, Host: 9, Flags: ShutdownBoth},
		)
		if p.send(p.packet(OpReset, 1000, 9), ""); p.d.held != 0 {
			t.Errorf("%d connections held after the guest's reset", p.d.held)
		}

		// A guest that never answers.
		c = p.connect(1000, 9)
		c.Close()
		p.expect(sent{Op: OpShutdown, Guest: 1000, Host: 9, Flags: ShutdownBoth})
		time.Sleep(closeTimeout)
		synctest.Wait()
		p.expect(sent{Op: OpReset, Guest: 1000, Host: 9})
		if p.d.held != 0 {
			t.Errorf("%d connections held after the time-out", p.d.held)
		}

		// A guest that needs the port again at once.
		c = p.connect(1000, 9)
		c.Close()
		p.take()
		c = p.connect(1000, 9)
		if c.state != open || p.d.held != 1 {
			t.Errorf("state %d, %d held after reuse of the port", c.state, p.d.held)
		}
	})
}

func TestDeviceResetEndsConnections(t *testing.T) {
	p := peer{t, newDevice(t, Config{})}
	l, err := p.d.Listen(20)
	if err != nil {
		t.Fatal(err)
	}
	for cycle := range 3 {
		c := p.connect(1000, 9)
		result := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			result <- err
		}()
		p.d.stop()
		if err := <-result; !errors.Is(err, ErrReset) || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("cycle %d: read: %v", cycle, err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, ErrReset) {
			t.Errorf("cycle %d: write: %v", cycle, err)
		}
		c.Close()
		p.d.start()
		p.expect() // nothing of the old life reaches the new driver
		p.send(p.packet(OpRequest, 1000, 20), "")
		p.expect(sent{Op: OpResponse, Guest: 1000, Host: 20})
		accept(t, l).Close()
		p.take()
	}
	p.d.stop()
	if p.d.held != 0 {
		t.Errorf("%d connections held", p.d.held)
	}
}

func TestWriteDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := peer{t, newDevice(t, Config{})}
		c := p.connect(1000, 9)
		c.SetWriteDeadline(time.Now().Add(time.Minute))
		n, err := c.Write(make([]byte, bufferSize+1))
		if n != bufferSize || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d, %v; want %d and the deadline", n, err, bufferSize)
		}
		c.SetWriteDeadline(time.Time{})
		p.take()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Errorf("after the deadline was lifted: %v", err)
		}
		c.Close()
		p.send(p.packet(OpReset, 1000, 9), "")
	})
}
