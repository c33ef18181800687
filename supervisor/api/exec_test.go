package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"warder/guestinit/control"
	"warder/guestinit/proto"
)

func TestExec(t *testing.T) {
	h, own := hostOf(t, "a")
	ctx := t.Context()
	exec := func(args ...string) Exec { return Exec{Command: proto.Command{Args: args}, Stdin: true} }
	_, err := h.Exec(ctx, "a", exec("x"))
	code(t, err, Unavailable)
	if _, err := h.Start(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	_, err = h.Exec(ctx, "a", exec("nothing"))
	code(t, err, NoCommand)
	_, err = h.Exec(ctx, "a", Exec{})
	code(t, err, BadRequest)

	// Much input, which comes back.
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	c, err := h.Exec(ctx, "a", exec("say", "7"))
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	x, err := c.Run(ctx, bytes.NewReader(data), &out, &errs)
	if err != nil || x.Error != nil || x.Status.Code != 7 || errs.String() != "reading" || out.String() != "say 7\n"+string(data) {
		t.Errorf("%+v, %v: %d bytes, %q", x, err, out.Len(), errs.String())
	}

	// What else is told to the command, and its end with its client.
	in, w := io.Pipe()
	defer w.Close()
	if c, err = h.Exec(ctx, "a", exec("say")); err != nil {
		t.Fatal(err)
	}
	var vm *echo
	p, err := own.Exec(ctx, "a", proto.Command{Args: []string{"x"}}, control.Stdio{Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	vm = p.(*echoProcess).vm
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Run(running, in, io.Discard, io.Discard)
		ended <- err
	}()
	for _, tell := range []struct {
		how  func() error
		want string
	}{
		{func() error { return c.Signal(15) }, "signal 15"},
		{func() error { return c.Resize(Size{90, 20}) }, "90x20"},
		{func() error { cancel(); return nil }, "killed"},
	} {
		if err := tell.how(); err != nil {
			t.Error(err)
		}
		if got := <-vm.sizes; got != tell.want {
			t.Errorf("the command got %s, want %s", got, tell.want)
		}
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("cut off: %v", err)
	}
}

// A command that does not read its input holds up nothing else of its connection, and
// its client sends no more than there is room for.
func TestExecOfWhatDoesNotRead(t *testing.T) {
	h, own := hostOf(t, "a")
	ctx := t.Context()
	if _, err := h.Start(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	probe, err := own.Exec(ctx, "a", proto.Command{Args: []string{"x"}}, control.Stdio{Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	vm := probe.(*echoProcess).vm
	deaf := Exec{Command: proto.Command{Args: []string{"deaf"}}, Stdin: true}
	c, err := h.Exec(ctx, "a", deaf)
	if err != nil {
		t.Fatal(err)
	}
	running, cancel := context.WithCancel(ctx)
	read := &counted{r: bytes.NewReader(make([]byte, 10*inputWindow))}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Run(running, read, io.Discard, io.Discard)
		ended <- err
	}()
	for read.bytes() <= inputWindow { // until one piece more is in hand
		if ctx.Err() != nil {
			t.Fatal("the input is not sent")
		}
		time.Sleep(time.Millisecond)
	}
	if err := c.Resize(Size{90, 20}); err != nil {
		t.Fatal(err)
	}
	if got := <-vm.sizes; got != "90x20" {
		t.Errorf("the command got %s", got)
	}
	if n := read.bytes(); n > 2*inputWindow {
		t.Errorf("%d bytes were read ahead", n)
	}
	cancel()
	if got := <-vm.sizes; got != "killed" {
		t.Errorf("the command got %s", got)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	// A client that sends more than it may is hung up on.
	if c, err = h.Exec(ctx, "a", deaf); err != nil {
		t.Fatal(err)
	}
	defer c.conn.Close()
	for range 2 * inputWindow / maxFrame {
		if c.out.write(frameInput, make([]byte, maxFrame)) != nil {
			break
		}
	}
	if got := <-vm.sizes; got != "killed" {
		t.Errorf("the command got %s", got)
	}
}

// counted counts what is read.
type counted struct {
	r  io.Reader
	mu sync.Mutex
	n  int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
	return n, err
}

func (c *counted) bytes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}
