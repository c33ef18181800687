package gdbstub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// session is a debugger that is attached.
type session struct {
	c *conn
	t Target

	running bool
	stop    Stop         // why the target stands still
	sizes   []int        // of the registers
	thread  int          // that registers and memory are asked of
	files   map[int]file // that the debugger has opened, by descriptor
	swbreak bool         // what the debugger can be told in a stop
	hwbreak bool
	xml     string
}

// Serve serves one debugger, until it detaches, kills the target, goes away, or
// ctx ends, and closes rw. In any case but that of a kill the target goes on
// without breakpoints.
func Serve(ctx context.Context, rw io.ReadWriteCloser, t Target) error {
	defer rw.Close()
	defer context.AfterFunc(ctx, func() { rw.Close() })()
	s := &session{c: newConn(rw), t: t, files: map[int]file{}, xml: t.Description()}
	var err error
	if s.sizes, err = registerSizes(s.xml); err != nil {
		return err
	}
	packets := make(chan []byte)
	broken := make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			p, err := s.c.read()
			if err != nil {
				broken <- err
				return
			}
			select {
			case packets <- p:
			case <-done:
				return
			}
		}
	}()
	// Nothing happens to the target before the other side has shown that it
	// is a debugger.
	var first []byte
	select {
	case first = <-packets:
	case err := <-broken:
		return ended(ctx, err)
	case <-ctx.Done():
		return nil
	}
	if s.stop, err = t.Attach(); err != nil {
		return err
	}
	s.thread = max(s.stop.Thread, 1)
	if err := s.serve(ctx, packets, broken, first); errors.Is(err, errKilled) {
		return nil
	} else if !errors.Is(err, errDetached) {
		return errors.Join(ended(ctx, err), t.Detach())
	}
	return nil
}

// ended is what a connection ended with that was not closed in good order.
func ended(ctx context.Context, err error) error {
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return nil
	}
	return err
}

// How a session ends in good order.
var (
	errDetached = errors.New("detached")
	errKilled   = errors.New("killed")
)

func (s *session) serve(ctx context.Context, packets <-chan []byte, broken <-chan error, first []byte) error {
	if err := s.packet(first); err != nil {
		return err
	}
	for {
		var err error
		select {
		case p := <-packets:
			err = s.packet(p)
		case s.stop = <-s.t.Stops():
			err = s.stopped()
		case err = <-broken:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// packet does what a packet asks for and answers it.
func (s *session) packet(p []byte) error {
	if p == nil {
		if s.running {
			return s.t.Interrupt()
		}
		return nil
	}
	if s.running && !ends(string(p)) {
		return s.answer(errorBusy) // in all-stop mode it waits
	}
	return s.command(string(p))
}

// ends says whether a packet is the debugger's last.
func ends(p string) bool {
	return strings.HasPrefix(p, "D") || strings.HasPrefix(p, "k") || strings.HasPrefix(p, "vKill;")
}

// stopped tells of the stop that the debugger waits for.
func (s *session) stopped() error {
	s.running = false
	if s.stop.Thread > 0 {
		s.thread = s.stop.Thread
	}
	return s.c.send([]byte(s.stopReply()))
}

// Signals as GDB numbers them.
const (
	sigInt  = 2
	sigKill = 9
	sigTrap = 5
)

// stopReply is why the target stands still (GDB manual, E.3 "Stop Reply Packets").
func (s *session) stopReply() string {
	signal, why := sigTrap, ""
	switch s.stop.Reason {
	case Exited:
		return fmt.Sprintf("W%02x", s.stop.Status)
	case Killed:
		return fmt.Sprintf("X%02x", sigKill)
	case Interrupted:
		signal = sigInt
	case Hit:
		switch s.stop.Break.Kind {
		case Software:
			if s.swbreak {
				why = "swbreak:;"
			}
		case Hardware:
			if s.hwbreak {
				why = "hwbreak:;"
			}
		case WatchWrite:
			why = fmt.Sprintf("watch:%x;", s.stop.Break.Addr)
		case WatchRead:
			why = fmt.Sprintf("rwatch:%x;", s.stop.Break.Addr)
		case WatchAccess:
			why = fmt.Sprintf("awatch:%x;", s.stop.Break.Addr)
		}
	}
	return fmt.Sprintf("T%02xthread:%x;%s", signal, s.stop.Thread, why)
}
