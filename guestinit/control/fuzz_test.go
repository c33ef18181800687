package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"warder/guestinit/proto"
)

// listener gives the connections that are put into it.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *listener) Addr() net.Addr { return nil }

// dial makes a connection on which the guest says what it says and takes
// anything, until the host has closed it.
func (l *listener) dial(says []byte, more <-chan []byte) {
	guest, host := net.Pipe()
	select {
	case l.conns <- host:
	case <-l.closed:
		return
	}
	go io.Copy(io.Discard, guest)
	go func() {
		defer guest.Close()
		if _, err := guest.Write(says); err != nil {
			return
		}
		for b := range more {
			if _, err := guest.Write(b); err != nil {
				return
			}
		}
	}()
}

func opening(t testing.TB) []byte {
	var b bytes.Buffer
	if err := proto.WritePreamble(&b, proto.Preamble{Role: proto.Control}); err != nil {
		t.Fatal(err)
	}
	if err := proto.WriteFrame(&b, []byte(`{"version":1}`)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func frame(t testing.TB, s string) []byte {
	var b bytes.Buffer
	if err := proto.WriteFrame(&b, []byte(s)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzGuest lets a hostile guest say whatever it likes while the host runs a
// command. The host must come back from everything; Close waits for what it
// has started.
func FuzzGuest(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add(frame(f, `{"id":1,"body":{"pid":5}}`), []byte{})
	f.Add(append(frame(f, `{"method":"exited","body":{"id":1,"status":{"code":3}}}`), frame(f, `{"id":1,"body":{"pid":5}}`)...), []byte("WRDR"))
	f.Add(frame(f, `{"id":1,"error":{"code":"not-found","message":"\u001b[31m"}}`), opening(f))
	f.Add(frame(f, `{"method":"stopping","body":{"reason":"x"}}`), []byte("GET / HTTP/1.0\r\n\r\n"))
	f.Add(frame(f, `{"method":"shortage","body":{"resource":"memory"}}`), []byte{})
	f.Fuzz(func(t *testing.T, control, other []byte) {
		l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
		more := make(chan []byte, 1)
		go l.dial(opening(t), more)
		g, err := Accept(t.Context(), l, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		go l.dial(other, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		more <- control
		var out bytes.Buffer
		g.Run(ctx, proto.Command{Args: []string{"x"}}, Stdio{In: strings.NewReader("in"), Out: &out})
		close(more)
		g.Close()
		if out.Len() > 0 {
			t.Errorf("output %q from a connection that had no token", out.Bytes())
		}
	})
}

// TestStrangers has programs in the guest dial the port of the host.
func TestStrangers(t *testing.T) {
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	forged := proto.Preamble{Role: proto.Stdout, Token: proto.NewToken()}
	var b bytes.Buffer
	if err := proto.WritePreamble(&b, forged); err != nil {
		t.Fatal(err)
	}
	go l.dial(opening(t), make(chan []byte))
	g, err := Accept(t.Context(), l, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for name, says := range map[string][]byte{
		"another control connection": opening(t),
		"a stream with no command":   b.Bytes(),
		"something else":             []byte("GET / HTTP/1.0\r\nHost: x\r\n\r\n"),
	} {
		guest, host := net.Pipe()
		l.conns <- host
		go guest.Write(says)
		guest.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.Copy(io.Discard, guest); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("%s is not closed: %v", name, err)
		}
	}
	select {
	case <-g.Done():
		t.Error("the control connection ended")
	default:
	}
}

// TestGuestKeepsItsStream has a guest say that its command has ended, keep the
// command's output open, and go.
func TestGuestKeepsItsStream(t *testing.T) {
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	guest, host := net.Pipe()
	stream, hostsStream := net.Pipe()
	defer stream.Close()
	go func() {
		defer guest.Close()
		l.conns <- host
		guest.Write(opening(t))
		proto.ReadFrame(guest) // the host's hello
		b, err := proto.ReadFrame(guest)
		var call struct {
			ID   uint64      `json:"id"`
			Body proto.Start `json:"body"`
		}
		if err := errors.Join(err, json.Unmarshal(b, &call)); err != nil {
			t.Error(err)
			return
		}
		l.conns <- hostsStream
		proto.WritePreamble(stream, proto.Preamble{Role: proto.Stdout, Token: call.Body.Token})
		guest.Write(frame(t, fmt.Sprintf(`{"id":%d,"body":{"pid":5}}`, call.ID)))
		stream.Write([]byte("said"))
		guest.Write(frame(t, fmt.Sprintf(`{"method":"exited","body":{"id":%d,"status":{"code":3}}}`, call.Body.ID)))
	}()
	g, err := Accept(t.Context(), l, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	var out bytes.Buffer
	status, err := g.Run(t.Context(), proto.Command{Args: []string{"x"}}, Stdio{Out: &out})
	if err != nil || status.Code != 3 || out.String() != "said" {
		t.Errorf("status %+v, error %v, output %q", status, err, out.String())
	}
}

func TestAcceptGivesUp(t *testing.T) {
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		l.dial([]byte("WRDR"), nil) // and no more
		cancel()
	}()
	if _, err := Accept(ctx, l, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	select {
	case <-l.closed:
	default:
		t.Error("the listener is open")
	}
}

// TestOtherVersion has a guest of another build dial the host, which is told at once.
func TestOtherVersion(t *testing.T) {
	says := opening(t)
	says[5]++ // the version in the preamble
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	go l.dial(says, nil)
	_, err := Accept(t.Context(), l, slog.New(slog.DiscardHandler))
	if e, ok := errors.AsType[*proto.VersionError](err); !ok || e.Peer != proto.Version+1 {
		t.Errorf("error %v", err)
	}
}

// TestShortages has a guest say what it is short of, nonsense, and more than anybody
// reads.
func TestShortages(t *testing.T) {
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	more := make(chan []byte)
	go l.dial(opening(t), more)
	g, err := Accept(t.Context(), l, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	memory := frame(t, `{"method":"shortage","body":{"resource":"memory"}}`)
	for _, says := range []string{`{"resource":"money"}`, `{"resource":["cpu"]}`, `7`} {
		more <- frame(t, `{"method":"shortage","body":`+says+`}`)
	}
	for range 100 * maxShortages {
		more <- memory
	}
	close(more)
	<-g.Done() // all of it has been read
	g.Close()
	for range maxShortages {
		if p := <-g.Shortages(); p.Resource != proto.Memory {
			t.Errorf("short of %q", p.Resource)
		}
	}
	select {
	case p := <-g.Shortages():
		t.Errorf("one more of %+v", p)
	default:
	}
}
