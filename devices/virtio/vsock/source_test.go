package vsock

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
)

// TestReadFrom sends what readers of several kinds give, with and without an error at the end.
func TestReadFrom(t *testing.T) {
	data := make([]byte, 3*bufferSize+1)
	rand.NewChaCha8([32]byte{}).Read(data)
	errBroken := errors.New("broken")
	for name, test := range map[string]struct {
		reader io.Reader
		want   error
	}{
		"plain":               {bytes.NewReader(data), nil},
		"halves":              {iotest.HalfReader(bytes.NewReader(data)), nil},
		"the end with data":   {iotest.DataErrReader(bytes.NewReader(data)), nil},
		"an error at the end": {io.MultiReader(bytes.NewReader(data), iotest.ErrReader(errBroken)), errBroken},
		"a socket":            {socketWith(t, data), nil},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			host, guest := newDevice(t, Config{}), newDevice(t, Config{})
			wait := join(ctx, host, guest)
			defer func() { cancel(); wait() }()
			l, err := guest.Listen(7)
			if err != nil {
				t.Fatal(err)
			}
			c, err := host.Dial(ctx, 7)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			far := accept(t, l)
			defer far.Close()
			got := make(chan []byte)
			go func() {
				b, _ := io.ReadAll(far)
				got <- b
			}()
			n, err := io.Copy(c, test.reader)
			if n != int64(len(data)) || !errors.Is(err, test.want) {
				t.Errorf("sent %d bytes, %v; want %d, %v", n, err, len(data), test.want)
			}
			if err := c.(*Conn).CloseWrite(); err != nil {
				t.Error(err)
			}
			if b := <-got; !bytes.Equal(b, data) {
				t.Errorf("%d bytes arrived, or others than were sent", len(b))
			}
		})
	}
}

// socketWith is a Unix socket that somebody writes data to, and closes.
func socketWith(t *testing.T, data []byte) *net.UnixConn {
	t.Helper()
	path := filepath.Join(shortDir(t), "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := dialUnix(t, path)
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		far.Write(data)
		far.Close()
	}()
	return c
}

// TestReadFromEndsWithTheConnection: what waits for room does not when there will be none,
// and reads nothing that it could not send.
func TestReadFromEndsWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := peer{t, newDevice(t, Config{})}
		c := p.connect(1000, 9)
		r := bytes.NewReader(make([]byte, 2*bufferSize))
		done := make(chan error)
		go func() {
			_, err := c.ReadFrom(r)
			done <- err
		}()
		synctest.Wait()
		h := p.packet(OpShutdown, 1000, 9)
		h.Flags = ShutdownReceive
		p.send(h, "")
		if err := <-done; !errors.Is(err, syscall.EPIPE) {
			t.Errorf("error %v, want EPIPE", err)
		}
		if r.Len() != bufferSize {
			t.Errorf("%d bytes were read, with room for %d", 2*bufferSize-r.Len(), bufferSize)
		}
		if _, err := c.ReadFrom(iotest.ErrReader(errors.New("read"))); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("once more: %v, want EPIPE", err)
		}
		c.Close()
		p.send(p.packet(OpReset, 1000, 9), "")
	})
}
