package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"warder/guestinit/proto"
)

// streamTimeout is how long the streams of a command may take after the guest's
// answer. The guest has dialled them before it, so that none comes only where
// one was refused; all the rest is for hosts that make their guests stand still.
const streamTimeout = time.Minute

// killTimeout is how long a guest may take to be told of an abandoned command.
const killTimeout = 10 * time.Second

// ErrStalled is the error of a guest that is there and has not done in time
// what it was told.
var ErrStalled = errors.New("the guest stands still")

// Stdio is what a command's streams are tied to. A nil one is /dev/null in the
// guest. With a terminal, Out has all output and Err is not used.
//
// In is read until it ends or the command does; a Read that blocks then stays
// behind, and what it returns is lost.
type Stdio struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// A Process is a command that was started.
type Process struct {
	id     uint64
	guest  *Guest
	exited <-chan proto.Status
	done   chan struct{} // closed when status and err stand
	status proto.Status
	err    error
}

// Run starts a command, waits for its end and for the last of its output. When
// ctx ends first, the command's processes are killed and ctx's error returned.
func (g *Guest) Run(ctx context.Context, cmd proto.Command, stdio Stdio) (proto.Status, error) {
	p, err := g.Start(ctx, cmd, stdio)
	if err != nil {
		return proto.Status{}, err
	}
	return p.Wait(ctx)
}

// Start starts a command. A *proto.Error with CodeNotFound or
// CodeNotExecutable says that there is no such program or that it cannot run.
func (g *Guest) Start(ctx context.Context, cmd proto.Command, stdio Stdio) (*Process, error) {
	start := proto.Start{Token: proto.NewToken(), Command: cmd}
	switch {
	case cmd.TTY:
		start.Streams = []proto.Role{proto.TTY}
	default:
		if stdio.In != nil {
			start.Streams = append(start.Streams, proto.Stdin)
		}
		if stdio.Out != nil {
			start.Streams = append(start.Streams, proto.Stdout)
		}
		if stdio.Err != nil {
			start.Streams = append(start.Streams, proto.Stderr)
		}
	}
	exited := make(chan proto.Status, 1)
	arrivals := make(map[proto.Role]chan net.Conn)
	g.mu.Lock()
	g.next++
	start.ID = g.next
	g.commands[start.ID] = exited
	for _, role := range start.Streams {
		arrivals[role] = make(chan net.Conn, 1)
		g.streams[streamKey{start.Token, role}] = arrivals[role]
	}
	g.mu.Unlock()

	streams, err := g.start(ctx, start, arrivals)
	g.mu.Lock()
	for role := range arrivals {
		delete(g.streams, streamKey{start.Token, role})
	}
	if err != nil {
		delete(g.commands, start.ID)
	}
	g.mu.Unlock()
	if err != nil {
		for role, ch := range arrivals { // nobody can send any more
			select {
			case c := <-ch:
				streams[role] = c
			default:
			}
		}
		for _, c := range streams {
			c.Close()
		}
		return nil, err
	}

	p := &Process{id: start.ID, guest: g, exited: exited, done: make(chan struct{})}
	go p.supervise(streams, stdio)
	return p, nil
}

// start makes the call and collects the streams. It returns those that came
// also with an error.
func (g *Guest) start(ctx context.Context, start proto.Start, arrivals map[proto.Role]chan net.Conn) (map[proto.Role]net.Conn, error) {
	streams := make(map[proto.Role]net.Conn)
	var started proto.Started
	if err := g.call(ctx, proto.MethodStart, start, &started); err != nil {
		return streams, err
	}
	late := time.NewTimer(streamTimeout)
	defer late.Stop()
	for role, ch := range arrivals {
		select {
		case streams[role] = <-ch:
		case <-late.C:
			delete(streams, role)
			g.kill(start.ID)
			return streams, fmt.Errorf("%w: it has started the command, but its %s did not come in %v", ErrStalled, role, streamTimeout)
		case <-g.Done():
			delete(streams, role)
			return streams, ErrGone
		case <-ctx.Done():
			delete(streams, role)
			g.kill(start.ID)
			return streams, ctx.Err()
		}
	}
	return streams, nil
}

// supervise copies the streams and settles how the command ended.
func (p *Process) supervise(streams map[proto.Role]net.Conn, stdio Stdio) {
	var outputs sync.WaitGroup
	var mu sync.Mutex
	var copyErr error
	out := func(w io.Writer, c net.Conn) {
		outputs.Go(func() {
			if err := drain(w, c, p.guest.Done()); err != nil {
				mu.Lock()
				copyErr = errors.Join(copyErr, err)
				mu.Unlock()
			}
			c.Close()
		})
	}
	for role, c := range streams {
		switch role {
		case proto.Stdin:
			go feed(c, stdio.In)
		case proto.Stdout:
			out(stdio.Out, c)
		case proto.Stderr:
			out(stdio.Err, c)
		case proto.TTY:
			w := stdio.Out
			if w == nil {
				w = io.Discard
			}
			out(w, c)
			if stdio.In != nil {
				go feed(c, stdio.In)
			} else {
				closeWrite(c)
			}
		}
	}

	copied := make(chan struct{})
	go func() {
		outputs.Wait()
		close(copied)
	}()
	select {
	case p.status = <-p.exited:
	case <-p.guest.Done():
		// The notice may have come before the connection's end.
		select {
		case p.status = <-p.exited:
		default:
			p.err = ErrGone
		}
	}
	select {
	case <-copied:
	case <-p.guest.Done():
		for _, c := range streams {
			c.SetReadDeadline(time.Now().Add(lastRead)) // ends reads that wait
		}
		<-copied
	}
	if p.err == nil {
		p.err = copyErr
	}
	if c := streams[proto.Stdin]; c != nil {
		c.Close()
	}
	p.guest.mu.Lock()
	delete(p.guest.commands, p.id)
	p.guest.mu.Unlock()
	close(p.done)
}

// feed copies input until either side ends, then tells the guest that there is
// no more.
func feed(c net.Conn, r io.Reader) {
	io.Copy(c, r)
	closeWrite(c)
}

func closeWrite(c net.Conn) {
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		h.CloseWrite()
		return
	}
	c.Close()
}

// Wait waits for the command's end and for the last of its output. When ctx
// ends first, the command's processes are killed and ctx's error returned. An
// *OutputError comes with a status that stands.
func (p *Process) Wait(ctx context.Context) (proto.Status, error) {
	select {
	case <-p.done:
		return p.status, p.err
	case <-ctx.Done():
		p.guest.kill(p.id)
		return proto.Status{}, ctx.Err()
	}
}

// Done is closed when the command has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal, by its Linux number, to the command's first process;
// on a terminal, to its foreground process group.
func (p *Process) Signal(ctx context.Context, signal int) error {
	return p.guest.call(ctx, proto.MethodSignal, proto.Signal{ID: p.id, Signal: signal}, nil)
}

// Kill kills every process of the command.
func (p *Process) Kill(ctx context.Context) error {
	return p.guest.call(ctx, proto.MethodSignal, proto.Signal{ID: p.id, Tree: true}, nil)
}

// Resize changes the size of the command's terminal, in characters.
func (p *Process) Resize(ctx context.Context, cols, rows uint16) error {
	return p.guest.call(ctx, proto.MethodResize, proto.Resize{ID: p.id, Cols: cols, Rows: rows}, nil)
}

// kill is the end of a command that nobody waits for.
func (g *Guest) kill(id uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	go func() {
		defer cancel()
		if err := g.call(ctx, proto.MethodSignal, proto.Signal{ID: id, Tree: true}, nil); err != nil {
			g.log.Debug("kill of an abandoned command", "err", err)
		}
	}()
}
