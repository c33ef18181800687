// Package control is the host's end of a guest's control connection: it takes
// the connections that the guest's PID 1 dials and runs commands through them.
//
// Everything the guest sends is hostile. A guest can make its own commands
// fail, stall or lie about how they ended; it can hold at most a fixed number
// of connections and calls, and nothing here outlives [Guest.Close].
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"warder/guestinit/proto"
	"warder/guestinit/secret"
)

const (
	// maxCalls bounds the guest's calls and notices in handling at a time.
	maxCalls = 32
	// maxStrangers bounds connections whose preamble has not been read.
	maxStrangers = 64
	// preambleTimeout is how long a connection may take to say what it is, once
	// commands can run and some of them may dial.
	preambleTimeout = time.Minute
	// maxWarnings bounds what a guest's hello can make the host keep.
	maxWarnings = 64
)

// ErrGone is the error of what a guest was doing when its control connection
// ended.
var ErrGone = errors.New("the guest is gone")

// A HelloError is a guest that dialled the host and then did not introduce
// itself: its connection ended, which makes it an [ErrGone] too, or Accept's
// ctx did.
type HelloError struct{ Err error }

func (e *HelloError) Error() string {
	return "the guest dialled the host but did not introduce itself: " + e.Err.Error()
}

func (e *HelloError) Unwrap() []error { return []error{ErrGone, e.Err} }

// A Guest is a booted guest that can be told what to do. Its methods are safe
// for concurrent use.
type Guest struct {
	hello  proto.Hello
	conn   *proto.Conn
	log    *slog.Logger
	cancel context.CancelFunc
	ended  sync.WaitGroup

	claimed atomic.Bool // there is, or was, a control connection
	secrets atomic.Pointer[func(name string) ([]byte, error)]

	mu       sync.Mutex
	next     uint64
	streams  map[streamKey]chan<- net.Conn // awaited, each buffered by one
	commands map[uint64]chan<- proto.Status
	stopping string

	shortages chan proto.Shortage
}

// maxShortages bounds what a guest has said of what it is short of and nobody has
// read. It says it again, and who reads any of it looks for himself.
const maxShortages = 4

type streamKey struct {
	token proto.Token
	role  proto.Role
}

// Accept waits on l for a guest's control connection and exchanges hellos, for
// as long as ctx lets it. The Guest takes further connections from l until it
// is closed, and then closes l. When ctx ends first, or the guest hangs up or
// speaks another version, Accept closes l and returns the error.
func Accept(ctx context.Context, l net.Listener, log *slog.Logger) (*Guest, error) {
	own, cancel := context.WithCancel(context.Background())
	g := &Guest{
		log:       log,
		cancel:    cancel,
		streams:   make(map[streamKey]chan<- net.Conn),
		commands:  make(map[uint64]chan<- proto.Status),
		shortages: make(chan proto.Shortage, maxShortages),
	}
	first, foreign := make(chan net.Conn, 1), make(chan error, 1)
	g.ended.Go(func() { g.accept(own, l, first, foreign) })

	fail := func(err error) (*Guest, error) {
		cancel()
		g.ended.Wait()
		if conn, ok := <-first; ok { // came too late
			conn.Close()
		}
		return nil, err
	}
	select {
	case <-ctx.Done():
		return fail(ctx.Err())
	case err := <-foreign:
		return fail(err)
	case conn, ok := <-first:
		if !ok {
			return fail(errors.New("no control connection: the listener is closed"))
		}
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		hello, err := proto.Welcome(conn)
		if !stop() {
			err = ctx.Err()
		}
		if err != nil {
			conn.Close()
			if _, ok := errors.AsType[*proto.VersionError](err); !ok {
				err = &HelloError{err}
			}
			return fail(err)
		}
		hello.Warnings = hello.Warnings[:min(len(hello.Warnings), maxWarnings)]
		g.hello = hello
		g.conn = proto.NewConn(conn, maxCalls, g.handle)
	}
	g.ended.Go(func() {
		err := g.conn.Serve(own)
		log.Debug("guest's control connection ended", "err", err)
		cancel()
	})
	return g, nil
}

// accept hands connections out by what their preamble says: the first control
// connection to first, streams to the command that awaits them; that the first speaks
// another version, to foreign. It ends with own, or when the listener does, and closes
// first then.
func (g *Guest) accept(own context.Context, l net.Listener, first chan<- net.Conn, foreign chan<- error) {
	stop := context.AfterFunc(own, func() { l.Close() })
	defer stop()
	defer close(first)
	var readers sync.WaitGroup
	defer readers.Wait()
	slots := make(chan struct{}, maxStrangers)
	for {
		select {
		case slots <- struct{}{}:
		case <-own.Done():
			return
		}
		conn, err := l.Accept()
		if err != nil {
			g.log.Debug("guest's listener ended", "err", err)
			return
		}
		readers.Go(func() {
			defer func() { <-slots }()
			g.admit(own, conn, first, foreign)
		})
	}
}

func (g *Guest) admit(own context.Context, conn net.Conn, first chan<- net.Conn, foreign chan<- error) {
	stop := context.AfterFunc(own, func() { conn.Close() })
	if g.claimed.Load() {
		// Before, only PID 1 dials. It has the time that Accept has: a machine
		// that stands still for a while in its boot is none that has failed.
		conn.SetReadDeadline(time.Now().Add(preambleTimeout))
	}
	p, err := proto.ReadPreamble(conn)
	if !stop() || err != nil {
		g.log.Debug("guest's connection refused", "err", err)
		conn.Close()
		if _, ok := errors.AsType[*proto.VersionError](err); ok && g.claimed.CompareAndSwap(false, true) {
			foreign <- err // has room for the one
		}
		return
	}
	if p.Role == proto.Secret {
		g.answer(own, conn)
		return
	}
	conn.SetReadDeadline(time.Time{})
	if p.Role == proto.Control {
		if !g.claimed.CompareAndSwap(false, true) {
			g.log.Debug("guest's connection refused", "err", "a second control connection")
			conn.Close()
			return
		}
		first <- conn // has room for the one
		return
	}
	key := streamKey{p.Token, p.Role}
	g.mu.Lock()
	ch := g.streams[key]
	delete(g.streams, key)
	if ch != nil {
		ch <- conn
	}
	g.mu.Unlock()
	if ch == nil {
		g.log.Debug("guest's connection refused", "err", "no command awaits this stream", "role", p.Role)
		conn.Close()
	}
}

// AnswerSecrets has the guest's questions for secrets answered by get, which may be
// called by several at once: see secret.Answer. Until then each is refused.
func (g *Guest) AnswerSecrets(get func(name string) ([]byte, error)) { g.secrets.Store(&get) }

// answer answers one question. It has the time that a preamble has.
func (g *Guest) answer(own context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(own, func() { conn.Close() })()
	conn.SetDeadline(time.Now().Add(preambleTimeout))
	get := g.secrets.Load()
	if get == nil {
		none := func(string) ([]byte, error) { return nil, proto.Errorf(proto.CodeRefused, "this VM has no secrets") }
		get = &none
	}
	if err := secret.Answer(conn, *get); err != nil {
		g.log.Debug("guest's question for a secret", "err", err)
	}
}

func (g *Guest) handle(_ context.Context, method string, body json.RawMessage) (any, error) {
	switch method {
	case proto.NoticeExited:
		var e proto.Exited
		if err := json.Unmarshal(body, &e); err != nil {
			return nil, err
		}
		g.mu.Lock()
		ch := g.commands[e.ID]
		delete(g.commands, e.ID)
		g.mu.Unlock()
		if ch != nil {
			ch <- e.Status
		}
		return nil, nil
	case proto.NoticeStopping:
		var s proto.Stopping
		if err := json.Unmarshal(body, &s); err != nil {
			return nil, err
		}
		g.mu.Lock()
		g.stopping = s.Reason
		g.mu.Unlock()
		return nil, nil
	case proto.NoticeShortage:
		return nil, g.short(body)
	}
	return nil, proto.Errorf(proto.CodeUnknownMethod, "host has no method %q", method)
}

func (g *Guest) short(body json.RawMessage) error {
	var s proto.Shortage
	if err := json.Unmarshal(body, &s); err != nil {
		return err
	}
	if s.Resource != proto.Memory && s.Resource != proto.CPU {
		return proto.Errorf(proto.CodeBadRequest, "no resource %q", s.Resource)
	}
	select {
	case g.shortages <- s:
	default:
	}
	return nil
}

// Shortages has what the guest says that it is short of, if it was set up to say so.
// What is not read in time is dropped. A guest can lie.
func (g *Guest) Shortages() <-chan proto.Shortage { return g.shortages }

// Hello is what the guest said of itself.
func (g *Guest) Hello() proto.Hello { return g.hello }

// Stopping is why the guest said that it powers off, "" while it has not.
func (g *Guest) Stopping() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stopping
}

// Done is closed when the control connection has ended.
func (g *Guest) Done() <-chan struct{} { return g.conn.Done() }

// Close ends all connections. The guest powers off when it sees that.
func (g *Guest) Close() error {
	g.cancel()
	g.ended.Wait()
	return nil
}

// Setup gives the guest its clock, entropy, name and mounts. The error of a
// mount names it.
func (g *Guest) Setup(ctx context.Context, s proto.Setup) error {
	return g.call(ctx, proto.MethodSetup, s, nil)
}

// Info asks for the guest's own view of its resources. A guest can lie.
func (g *Guest) Info(ctx context.Context) (proto.Info, error) {
	var info proto.Info
	err := g.call(ctx, proto.MethodInfo, struct{}{}, &info)
	return info, err
}

// SetCPUs has the guest take so many of its CPUs on line and the rest off, and
// tells how many it says are then. A guest can lie.
func (g *Guest) SetCPUs(ctx context.Context, online int) (proto.CPUs, error) {
	var cpus proto.CPUs
	err := g.call(ctx, proto.MethodCPUs, proto.SetCPUs{Online: online}, &cpus)
	return cpus, err
}

// PowerOff tells the guest to stop in good order and returns when it has
// begun. Grace is how long its processes get to end by themselves.
func (g *Guest) PowerOff(ctx context.Context, grace time.Duration) error {
	return g.call(ctx, proto.MethodPowerOff, proto.PowerOff{Grace: grace}, nil)
}

func (g *Guest) call(ctx context.Context, method string, args, result any) error {
	err := g.conn.Call(ctx, method, args, result)
	if errors.Is(err, proto.ErrClosed) {
		return fmt.Errorf("%s: %w", method, ErrGone)
	}
	return err
}
