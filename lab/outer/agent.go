package outer

import (
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"warder/lab/wire"
)

// An agent runs the host's commands, one at a time.
type agent struct {
	r io.Reader
	w *wire.Writer

	mu      sync.Mutex
	current *session // nil between commands
}

// run serves frames until the stream ends.
func (a *agent) run() error {
	for {
		f, err := wire.Read(a.r)
		if err != nil {
			return fmt.Errorf("the host is gone: %w", err)
		}
		if err := a.handle(f); err != nil {
			return err
		}
	}
}

func (a *agent) handle(f wire.Frame) error {
	a.mu.Lock()
	s := a.current
	a.mu.Unlock()
	if f.Type == wire.Start {
		if s != nil {
			return fmt.Errorf("a command was asked for while another runs")
		}
		var info wire.StartInfo
		if err := f.Decode(&info); err != nil {
			return err
		}
		a.start(info)
		return nil
	}
	if s == nil {
		return nil // it ended while this frame was under way
	}
	switch f.Type {
	case wire.Stdin:
		s.stdin.put(f.Payload)
	case wire.StdinEnd:
		s.stdin.end()
	case wire.Signal:
		var c wire.Count
		if err := f.Decode(&c); err != nil {
			return err
		}
		s.signal(unix.Signal(c.N))
	case wire.Resize:
		var size wire.Size
		if err := f.Decode(&size); err != nil {
			return err
		}
		s.resize(size)
	default:
		return fmt.Errorf("frame of unknown type %d from the host", f.Type)
	}
	return nil
}

// start runs a command in the background. Its last act is to send Exit, and
// the agent is free for the next command just before.
func (a *agent) start(info wire.StartInfo) {
	s := newSession(info, a.w)
	a.mu.Lock()
	a.current = s
	a.mu.Unlock()
	go func() {
		exit := runWithResults(s, a.w.Stream(wire.Result))
		a.mu.Lock()
		a.current = nil
		a.mu.Unlock()
		// When the port is broken, run's read ends the machine.
		_ = a.w.WriteJSON(wire.Exit, exit)
	}()
}

// runWithResults runs s and sends what it left in its results directory, which
// is there for it.
func runWithResults(s *session, to io.Writer) wire.ExitInfo {
	dir := s.info.Results
	if dir == "" {
		return s.run()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return wire.ExitInfo{Status: statusNotExecutable, Err: err.Error()}
	}
	exit := s.run()
	if err := sendResults(to, dir); err != nil && exit.Err == "" {
		exit.Err = err.Error()
	}
	return exit
}

// An input is standard input on its way to the command. It is bounded by
// wire.StdinWindow, which the host keeps.
type input struct {
	mu    sync.Mutex
	some  sync.Cond
	queue [][]byte
	ended bool
}

func newInput() *input {
	in := &input{}
	in.some.L = &in.mu
	return in
}

func (in *input) put(p []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.ended {
		in.queue = append(in.queue, p)
		in.some.Signal()
	}
}

func (in *input) end() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.ended = true
	in.some.Signal()
}

// next waits for bytes; it returns nil at the end of the input.
func (in *input) next() []byte {
	in.mu.Lock()
	defer in.mu.Unlock()
	for len(in.queue) == 0 && !in.ended {
		in.some.Wait()
	}
	if len(in.queue) == 0 {
		return nil
	}
	p := in.queue[0]
	in.queue = in.queue[1:]
	return p
}
