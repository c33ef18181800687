package vsock

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

func TestConnIsNetConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		a, b := newDevice(t, Config{}), newDevice(t, Config{})
		ctx, cancel := context.WithCancel(context.Background())
		wait := join(ctx, a, b)
		stop := func() { cancel(); wait(); a.Close(); b.Close() }
		l, err := b.Listen(80)
		if err != nil {
			return nil, nil, stop, err
		}
		c1, err := a.Dial(ctx, 80)
		if err != nil {
			return nil, nil, stop, err
		}
		c2, err := l.Accept()
		return c1, c2, stop, err
	})
}

func TestManyConnectionsBothWays(t *testing.T) {
	a, b := newDevice(t, Config{}), newDevice(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	wait := join(ctx, a, b)
	t.Cleanup(func() { cancel(); wait() })
	l, err := b.Listen(7)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()

	var work sync.WaitGroup
	for i := range 16 {
		work.Go(func() {
			c, err := a.Dial(ctx, 7)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			data := make([]byte, 700<<10)
			rand.NewChaCha8([32]byte{byte(i)}).Read(data)
			var back sync.WaitGroup
			back.Go(func() {
				sum := sha256.New()
				if n, err := io.Copy(sum, c); err != nil || n != int64(len(data)) {
					t.Errorf("read %d bytes of %d back: %v", n, len(data), err)
				}
				if want := sha256.Sum256(data); !bytes.Equal(sum.Sum(nil), want[:]) {
					t.Error("the data came back different")
				}
			})
			if _, err := c.Write(data); err != nil {
				t.Error(err)
			}
			if err := c.(*Conn).CloseWrite(); err != nil {
				t.Error(err)
			}
			back.Wait()
		})
	}
	work.Wait()
}

func TestDial(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(p peer, guest, host uint32)
		want   error
	}{
		{"refused", func(p peer, g, h uint32) { p.send(p.packet(OpReset, g, h), "") }, syscall.ECONNREFUSED},
		{"accepted", func(p peer, g, h uint32) { p.send(p.packet(OpResponse, g, h), "") }, nil},
		{"data before the answer", func(p peer, g, h uint32) { p.send(p.packet(OpData, g, h), "early") }, syscall.EPROTO},
		{"request back", func(p peer, g, h uint32) { p.send(p.packet(OpRequest, g, h), "") }, syscall.EPROTO},
		{"device reset", func(p peer, g, h uint32) { p.d.stop() }, ErrReset},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := peer{t, newDevice(t, Config{})}
			result := make(chan error)
			go func() {
				c, err := p.d.Dial(t.Context(), 22)
				if err == nil {
					defer c.Close()
				}
				result <- err
			}()
			<-p.d.output
			got := p.take()
			if len(got) != 1 || got[0].Op != OpRequest || got[0].Guest != 22 {
				t.Fatalf("sent %+v, want one request to port 22", got)
			}
			test.answer(p, 22, got[0].Host)
			if err := <-result; !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

func TestDialSaysWhatTheGuestDidNotDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := peer{t, newDevice(t, Config{})}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := p.d.Dial(ctx, 22)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "did not take the request") {
			t.Errorf("request not taken: %v", err)
		}
		p.expect()   // a guest that never saw the request hears nothing
		<-p.d.output // the signal for that request

		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		host := make(chan uint32, 1)
		go func() {
			<-p.d.output
			host <- p.take()[0].Host
		}()
		_, err = p.d.Dial(ctx, 22)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "did not answer") {
			t.Errorf("request not answered: %v", err)
		}
		p.expect(sent{Op: OpReset, Guest: 22, Host: <-host})

		p.d.stop()
		if _, err := p.d.Dial(t.Context(), 22); !errors.Is(err, ErrNotReady) {
			t.Errorf("without a driver: %v", err)
		}
	})
}

func TestGuestIsRefused(t *testing.T) {
	p := peer{t, newDevice(t, Config{MaxConns: 1})}
	p.send(p.packet(OpRequest, 1000, 9), "")
	p.expect(sent{Op: OpReset, Guest: 1000, Host: 9})

	l, err := p.d.Listen(9)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.d.Listen(9); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener: %v", err)
	}
	p.send(p.packet(OpRequest, 1000, 9), "")
	p.send(p.packet(OpRequest, 1001, 9), "") // beyond MaxConns
	p.expect(sent{Op: OpResponse, Guest: 1000, Host: 9}, sent{Op: OpReset, Guest: 1001, Host: 9})

	l.Close() // resets what nobody accepted
	p.expect(sent{Op: OpReset, Guest: 1000, Host: 9})
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	if p.d.held != 0 {
		t.Errorf("%d connections held", p.d.held)
	}
}

func TestGuestBreaksTheProtocol(t *testing.T) {
	full := strings.Repeat("x", bufferSize)
	for _, test := range []struct {
		name string
		send func(p peer)
	}{
		{"more than its credit", func(p peer) {
			p.send(p.packet(OpData, 1000, 9), full)
			p.send(p.packet(OpData, 1000, 9), "y")
		}},
		{"payload on a credit update", func(p peer) { p.send(p.packet(OpCreditUpdate, 1000, 9), "y") }},
		{"unknown operation", func(p peer) { p.send(p.packet(77, 1000, 9), "") }},
		{"operation zero", func(p peer) { p.send(p.packet(0, 1000, 9), "") }},
		{"second request", func(p peer) { p.send(p.packet(OpRequest, 1000, 9), "") }},
		{"response from nowhere", func(p peer) { p.send(p.packet(OpResponse, 1000, 9), "") }},
		{"consumed what was never sent", func(p peer) {
			h := p.packet(OpCreditUpdate, 1000, 9)
			h.FwdCnt = 5
			p.send(h, "")
		}},
		{"data after its end", func(p peer) {
			h := p.packet(OpShutdown, 1000, 9)
			h.Flags = ShutdownSend
			p.send(h, "")
			p.send(p.packet(OpData, 1000, 9), "y")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := peer{t, newDevice(t, Config{})}
			other := p.connect(1001, 10)
			c := p.connect(1000, 9)
			test.send(p)
			p.expect(sent{Op: OpReset, Guest: 1000, Host: 9})
			_, err := io.Copy(io.Discard, c)
			if err != nil && !errors.Is(err, syscall.EPROTO) {
				t.Errorf("read: %v, want EPROTO", err)
			}
			if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPROTO) {
				t.Errorf("write: %v, want EPROTO", err)
			}
			// The neighbour did not notice.
			p.send(p.packet(OpData, 1001, 10), "hello")
			got := make([]byte, 5)
			if _, err := io.ReadFull(other, got); err != nil || string(got) != "hello" {
				t.Errorf("neighbour read %q, %v", got, err)
			}
		})
	}
}

func TestPacketsThatAreNotForUs(t *testing.T) {
	p := peer{t, newDevice(t, Config{})}
	c := p.connect(1000, 9)
	for name, change := range map[string]func(*header){
		"forged source":         func(h *header) { h.SrcCID = 4 },
		"source beyond 32 bits": func(h *header) { h.SrcCID |= 1 << 32 },
	} {
		h := p.packet(OpReset, 1000, 9)
		change(&h)
		before := p.d.Dropped()
		p.send(h, "")
		if p.expect(); p.d.Dropped() != before+1 {
			t.Errorf("%s: not counted", name)
		}
	}
	h := p.packet(OpReset, 1000, 9)
	h.Type = 2
	p.send(h, "")
	h.Type, h.DstCID = typeStream, 7
	p.send(h, "")
	p.expect()

	// Other guests and socket types are refused, so that connect fails at once.
	h.Op = OpRequest
	p.send(h, "")
	got, _, ok := p.d.next(1)
	if !ok || got.Op != OpReset || got.SrcCID != 7 || got.DstCID != testCID {
		t.Errorf("answer to a request for CID 7: %+v", got)
	}
	if c.state != open {
		t.Error("the connection did not survive")
	}
}

func TestResetStormIsBounded(t *testing.T) {
	p := peer{t, newDevice(t, Config{})}
	c := p.connect(1000, 9)
	for i := range uint32(10_000) {
		p.send(p.packet(OpData, 5000+i, 1), "x")
		p.send(p.packet(OpReset, 5000+i, 1), "")
	}
	if _, err := c.Write([]byte("through")); err != nil {
		t.Fatal(err)
	}
	got := p.take()
	if len(got) != maxRefusals+1 {
		t.Errorf("%d packets, want %d resets and one of data", len(got), maxRefusals)
	}
	if got[0].Op != OpData && got[1].Op != OpData {
		t.Errorf("the connection waited behind the storm: %+v", got[:3])
	}
	if p.d.Dropped() != 10_000-maxRefusals {
		t.Errorf("dropped %d", p.d.Dropped())
	}
}

// TestGuestThatTakesNothing opens and resets connections without room for answers.
func TestGuestThatTakesNothing(t *testing.T) {
	p := peer{t, newDevice(t, Config{})}
	l, err := p.d.Listen(9)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(1000) {
		p.send(p.packet(OpRequest, i, 9), "")
		p.send(p.packet(OpReset, i, 9), "")
		accept(t, l).Close()
	}
	if p.d.held != 0 || len(p.d.ready) != 0 {
		t.Errorf("%d connections held, %d in line", p.d.held, len(p.d.ready))
	}
}

// TestResetOfAnEarlierConnection: a reset that waits for the ports' last user does
// not reach the next.
func TestResetOfAnEarlierConnection(t *testing.T) {
	p := peer{t, newDevice(t, Config{})}
	p.send(p.packet(OpData, 1000, 9), "to nobody")
	p.send(p.packet(OpData, 1001, 9), "to nobody")
	if _, err := p.d.Listen(9); err != nil {
		t.Fatal(err)
	}
	p.send(p.packet(OpRequest, 1000, 9), "")
	p.expect(sent{Op: OpReset, Guest: 1001, Host: 9}, sent{Op: OpResponse, Guest: 1000, Host: 9})
}

func TestCreditOfTheGuest(t *testing.T) {
	p := peer{t, newDevice(t, Config{})}
	c := p.connect(1000, 9)
	h := p.packet(OpCreditUpdate, 1000, 9)
	h.BufAlloc = 10
	p.send(h, "")
	if _, err := c.Write([]byte("0123456789abcdef")); err != nil {
		t.Fatal(err)
	}
	p.expect(
		sent{Op: OpData, Guest: 1000, Host: 9, Data: "0123456789"},
		sent{Op: OpCreditRequest, Guest: 1000, Host: 9},
	)
	h.FwdCnt = 4
	p.send(h, "")
	p.expect(
		sent{Op: OpData, Guest: 1000, Host: 9, Data: "abcd"},
		sent{Op: OpCreditRequest, Guest: 1000, Host: 9},
	)
	h.FwdCnt = 2 // overtaken by the one before
	p.send(h, "")
	p.expect()
	h.FwdCnt = 14
	p.send(h, "")
	p.expect(sent{Op: OpData, Guest: 1000, Host: 9, Data: "ef"})
	h.BufAlloc = 0 // a guest may shrink to nothing
	p.send(h, "")
	if _, err := c.Write([]byte("g")); err != nil {
		t.Fatal(err)
	}
	p.expect(sent{Op: OpCreditRequest, Guest: 1000, Host: 9})
}

func TestCreditForTheGuest(t *testing.T) {
	p := peer{t, newDevice(t, Config{})}
	c := p.connect(1000, 9)
	p.send(p.packet(OpCreditRequest, 1000, 9), "")
	p.expect(sent{Op: OpCreditUpdate, Guest: 1000, Host: 9})

	p.send(p.packet(OpData, 1000, 9), strings.Repeat("x", bufferSize))
	buf := make([]byte, bufferSize/2)
	if _, err := io.ReadFull(c, buf[:len(buf)-1]); err != nil {
		t.Fatal(err)
	}
	p.expect() // not worth a packet yet
	if _, err := io.ReadFull(c, buf[:1]); err != nil {
		t.Fatal(err)
	}
	got, _, ok := p.d.next(1)
	if !ok || got.Op != OpCreditUpdate || got.FwdCnt != bufferSize/2 || got.BufAlloc != bufferSize {
		t.Fatalf("credit update: %+v, %v", got, ok)
	}
	p.send(p.packet(OpData, 1000, 9), strings.Repeat("y", bufferSize/2))
	if c.state != open {
		t.Error("data within the credit reset the connection")
	}
}

func TestConnectionsTakeTurns(t *testing.T) {
	p := peer{t, newDevice(t, Config{})}
	var conns []*Conn
	for i := range uint32(3) {
		conns = append(conns, p.connect(1000+i, 9+i))
	}
	for _, c := range conns {
		if _, err := c.Write(make([]byte, 100<<10)); err != nil {
			t.Fatal(err)
		}
	}
	var order []uint32
	for range 9 {
		h, _, _ := p.d.next(16 << 10)
		order = append(order, h.DstPort-1000)
	}
	if want := []uint32{0, 1, 2, 0, 1, 2, 0, 1, 2}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}
