package lab

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"warder/lab/wire"
)

// killPatience is how long a command may take to be dead once killed. With
// everything emulated that is not instant.
const killPatience = 30 * time.Second

// Run runs a command and returns how it ended; commands run one at a time.
// When ctx ends first, the command is killed, the machine stays usable, and
// the error is ctx's cause. A *MachineError says that the machine is gone.
func (m *Machine) Run(ctx context.Context, c Command) (Exit, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return Exit{}, context.Cause(ctx)
	}
	start := wire.StartInfo{Args: c.Args, Env: c.Env, Dir: c.Dir, Results: c.Results}
	if c.Terminal != nil {
		start.TTY = true
		start.Size = wire.Size{Columns: c.Terminal.Columns, Rows: c.Terminal.Rows}
	}
	if err := m.w.WriteJSON(wire.Start, start); err != nil {
		return Exit{}, m.failure(err)
	}
	running, done := context.WithCancel(ctx)
	defer done()
	credit := make(chan int, wire.StdinWindow)
	go m.sendInput(running, c.Stdin, credit)
	go m.sendEvents(running, c)
	stop := context.AfterFunc(ctx, func() {
		// A broken stream is seen by the reader.
		_ = m.w.WriteJSON(wire.Signal, wire.Count{N: int(unix.SIGKILL)})
	})
	defer stop()
	return m.follow(ctx, c, credit)
}

// follow passes the command's output on until it ends.
func (m *Machine) follow(ctx context.Context, c Command, credit chan<- int) (Exit, error) {
	results, err := newResults(c)
	if err != nil {
		return Exit{}, err
	}
	defer results.abandon()
	var killed time.Time
	for {
		f, err := m.read()
		if err != nil {
			return Exit{}, err
		}
		switch f.Type {
		case wire.Stdout:
			err = output(c.Stdout, f.Payload)
		case wire.Stderr:
			err = output(c.Stderr, f.Payload)
		case wire.Result:
			err = results.write(f.Payload)
		case wire.StdinCredit:
			var n wire.Count
			if err = f.Decode(&n); err == nil {
				credit <- n.N
			}
		case wire.Exit:
			return m.exit(ctx, f, results)
		case wire.Alive:
		default:
			return Exit{}, m.failure(fmt.Errorf("frame of unknown type %d", f.Type))
		}
		if err != nil {
			m.Close()
			return Exit{}, fmt.Errorf("lab: %w", err)
		}
		if ctx.Err() != nil {
			if killed.IsZero() {
				killed = time.Now()
			}
			if time.Since(killed) > killPatience {
				return Exit{}, m.failure(fmt.Errorf("a killed command did not end within %v", killPatience))
			}
		}
	}
}

func (m *Machine) exit(ctx context.Context, f wire.Frame, results *results) (Exit, error) {
	var info wire.ExitInfo
	if err := f.Decode(&info); err != nil {
		return Exit{}, m.failure(err)
	}
	exit := Exit{Status: info.Status, Time: info.End - info.Start}
	if err := results.finish(); err != nil {
		return exit, fmt.Errorf("lab: results: %w", err)
	}
	if ctx.Err() != nil {
		return exit, context.Cause(ctx)
	}
	if info.Err != "" {
		return exit, fmt.Errorf("lab: %s", info.Err)
	}
	return exit, nil
}

func output(w io.Writer, p []byte) error {
	if w == nil {
		return nil
	}
	if _, err := w.Write(p); err != nil {
		return fmt.Errorf("pass output on: %w", err)
	}
	return nil
}

// sendInput passes standard input on, never more than the window ahead of the
// command. A read that is under way when the command ends cannot be taken
// back: what it returns is lost.
func (m *Machine) sendInput(ctx context.Context, r io.Reader, credit <-chan int) {
	if r != nil {
		window := wire.StdinWindow
		buf := make([]byte, 32<<10)
		for {
			n, err := r.Read(buf)
			if ctx.Err() != nil {
				return
			}
			for window -= n; window < len(buf); {
				select {
				case c := <-credit:
					window += c
				case <-ctx.Done():
					return
				}
			}
			if n > 0 && m.w.Write(wire.Stdin, buf[:n]) != nil {
				return
			}
			if err != nil {
				break
			}
		}
	}
	_ = m.w.Write(wire.StdinEnd, nil)
}

// sendEvents passes signals and terminal sizes on.
func (m *Machine) sendEvents(ctx context.Context, c Command) {
	var resized <-chan [2]uint16
	if c.Terminal != nil {
		resized = c.Terminal.Resized
	}
	for {
		var err error
		select {
		case n := <-c.Signals:
			err = m.w.WriteJSON(wire.Signal, wire.Count{N: n})
		case s := <-resized:
			err = m.w.WriteJSON(wire.Resize, wire.Size{Columns: s[0], Rows: s[1]})
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// A countingReader knows how much was read from it.
type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
