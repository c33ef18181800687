package lab

import (
	"context"
	"fmt"
	"io"
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
	results, err := newResults(c)
	if err != nil {
		return Exit{}, err
	}
	defer results.abandon()
	start := wire.StartInfo{Args: c.Args, Env: c.Env, Dir: c.Dir, Results: c.Results}
	if c.Terminal != nil {
		start.TTY = true
		start.Size = wire.Size{Columns: c.Terminal.Columns, Rows: c.Terminal.Rows}
	}
	if err := m.w.WriteJSON(wire.Start, start); err != nil {
		return Exit{}, m.failure(err)
	}
	f := newFeed(m.w)
	defer f.end()
	go f.input(c.Stdin)
	go f.events(c)
	stop := context.AfterFunc(ctx, func() { f.send(wire.Signal, wire.Count{N: int(unix.SIGKILL)}) })
	defer stop()
	return m.follow(ctx, c, f, results)
}

// follow passes the command's output on until it ends.
func (m *Machine) follow(ctx context.Context, c Command, feed *feed, results *results) (Exit, error) {
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
				feed.credit(n.N)
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
