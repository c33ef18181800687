package control

import (
	"fmt"
	"io"
	"net"
	"time"
)

// Of a stream whose guest is gone, what has arrived is still read, however long the
// host's side takes for it; what has not never comes.
const (
	lastRead = time.Second // without a byte, after which none comes
	// lastBytes bounds what a guest sends that has ended its control connection alone.
	// It is more than a connection holds.
	lastBytes = 1 << 20
)

// An OutputError is the failure of the host's side of a command's output, such
// as a closed pipe. The command saw its own pipe closed.
type OutputError struct{ Err error }

func (e *OutputError) Error() string { return "output of the command: " + e.Err.Error() }
func (e *OutputError) Unwrap() error { return e.Err }

// drain copies output until the guest ends it, or is gone. A failing writer is an
// error, a connection that breaks is the guest's affair.
func drain(w io.Writer, c net.Conn, gone <-chan struct{}) error {
	t := &tap{w: w}
	_, _ = io.Copy(t, &output{Conn: c, gone: gone, left: lastBytes})
	if t.err != nil {
		return &OutputError{t.err}
	}
	return nil
}

// output is a command's output. A Read that waits when the guest goes is for whoever
// sees it go to end.
type output struct {
	net.Conn
	gone <-chan struct{}
	left int // of what is read when it is closed
}

func (o *output) Read(p []byte) (int, error) {
	select {
	case <-o.gone:
	default:
		return o.Conn.Read(p)
	}
	if o.left == 0 {
		return 0, fmt.Errorf("more than %d bytes from a guest that is gone", lastBytes)
	}
	if err := o.SetReadDeadline(time.Now().Add(lastRead)); err != nil {
		return 0, err
	}
	n, err := o.Conn.Read(p[:min(len(p), o.left)])
	o.left -= n
	return n, err
}

// tap remembers a writer's error, to tell it from the reader's.
type tap struct {
	w   io.Writer
	err error
}

func (t *tap) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	if err != nil {
		t.err = err
	}
	return n, err
}
