package proto

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// writeTimeout is how long a peer may leave a frame unread before the
// connection is given up, where the connection has deadlines.
const writeTimeout = 20 * time.Second

// A Handler answers the peer's calls and takes its notices (whose result is
// dropped). It runs on a goroutine of its own. An *Error reaches the caller as
// it is, any other error as CodeInternal.
type Handler func(ctx context.Context, method string, body json.RawMessage) (any, error)

// ErrClosed is the error of a call whose connection ended before the reply.
var ErrClosed = errors.New("control connection closed")

// ErrCalledOff is why the context of a handler ended whose caller does not wait any
// more, see context.Cause.
var ErrCalledOff = errors.New("the call was called off")

// A Conn is one end of a control connection, after the hellos. Its methods
// are safe for concurrent use.
//
// A frame is one JSON object. With a method and an id it is a call, with only
// a method a notice, with only an id the reply to that call, or, where it says so,
// that the caller has called it off.
type Conn struct {
	rwc     io.ReadWriteCloser
	handler Handler
	slots   chan struct{} // one per peer's call being handled
	done    chan struct{} // closed when Serve has ended

	writing sync.Mutex

	mu      sync.Mutex
	next    uint64
	pending map[uint64]chan message            // calls of ours; each buffered by one
	peers   map[uint64]context.CancelCauseFunc // the peer's calls in handling
	closed  bool
}

type message struct {
	ID     uint64          `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
	Error  *Error          `json:"error,omitempty"`
	Off    bool            `json:"off,omitempty"` // the call is called off
}

// NewConn makes an end over rwc. It handles at most limit of the peer's calls
// and notices at a time; further calls get CodeBusy, further notices wait.
func NewConn(rwc io.ReadWriteCloser, limit int, h Handler) *Conn {
	return &Conn{
		rwc:     rwc,
		handler: h,
		slots:   make(chan struct{}, limit),
		done:    make(chan struct{}),
		pending: make(map[uint64]chan message),
		peers:   make(map[uint64]context.CancelCauseFunc),
	}
}

// Serve reads and answers until the connection fails or ctx ends, then closes
// it and waits for the handlers, whose context it cancels. It returns nil at
// the peer's orderly close, ctx's error when that ended it. Call it once.
func (c *Conn) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { c.rwc.Close() })
	var calls, notices sync.WaitGroup
	err := c.read(ctx, &calls, &notices)
	if cause := ctx.Err(); cause != nil {
		err = cause
	}
	stop()
	cancel()
	c.rwc.Close()
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	// The last notice may be what somebody waits for beside Done.
	notices.Wait()
	close(c.done)
	calls.Wait()
	return err
}

// Done is closed when the connection has ended and every notice that came has
// been handled.
func (c *Conn) Done() <-chan struct{} { return c.done }

func (c *Conn) read(ctx context.Context, calls, notices *sync.WaitGroup) error {
	for {
		p, err := ReadFrame(c.rwc)
		if err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var m message
		if err := json.Unmarshal(p, &m); err != nil {
			return fmt.Errorf("control frame: %w", err)
		}
		switch {
		case m.Off:
			c.callOff(m.ID)
		case m.Method == "":
			c.deliver(m)
		case m.ID == 0:
			select {
			case c.slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			notices.Go(func() { c.handle(ctx, m) })
		default:
			select {
			case c.slots <- struct{}{}:
				ctx, done := c.begin(ctx, m.ID)
				calls.Go(func() {
					defer done()
					c.handle(ctx, m)
				})
			default:
				// Written by the reader: a peer that floods is slowed down.
				c.write(message{ID: m.ID, Error: Errorf(CodeBusy, "too many calls at once")})
			}
		}
	}
}

// begin makes the context of a peer's call, before anything can call it off.
func (c *Conn) begin(ctx context.Context, id uint64) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peers[id] = cancel
	return ctx, func() {
		cancel(nil)
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.peers, id)
	}
}

func (c *Conn) callOff(id uint64) {
	c.mu.Lock()
	cancel := c.peers[id]
	c.mu.Unlock()
	if cancel != nil {
		cancel(ErrCalledOff)
	}
}

func (c *Conn) handle(ctx context.Context, m message) {
	defer func() { <-c.slots }()
	result, err := c.handler(ctx, m.Method, m.Body)
	if m.ID == 0 {
		return
	}
	reply := message{ID: m.ID}
	if err == nil && result != nil {
		reply.Body, err = json.Marshal(result)
	}
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		if !ok {
			e = &Error{Code: CodeInternal, Message: err.Error()}
		}
		reply.Error = e
	}
	c.write(reply) // a failed write ends the reader too
}

func (c *Conn) deliver(m message) {
	c.mu.Lock()
	ch := c.pending[m.ID]
	delete(c.pending, m.ID)
	c.mu.Unlock()
	if ch != nil { // else nobody waits any more, or the peer made it up
		ch <- m
	}
}

func (c *Conn) write(m message) error {
	p, err := json.Marshal(m)
	if err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	if d, ok := c.rwc.(interface{ SetWriteDeadline(time.Time) error }); ok {
		d.SetWriteDeadline(time.Now().Add(writeTimeout))
	}
	err = WriteFrame(c.rwc, p)
	if _, ok := errors.AsType[*FrameSizeError](err); err != nil && !ok {
		c.rwc.Close() // perhaps inside a frame: nothing can follow
	}
	return err
}

// Call calls the peer and waits for its reply, which it decodes into result
// unless that is nil. It returns the peer's *Error, ErrClosed, the error of a frame
// that is too large, or ctx's error: the handler's context ends then too, and what it
// does all the same nobody hears.
func (c *Conn) Call(ctx context.Context, method string, args, result any) error {
	body, err := json.Marshal(args)
	if err != nil {
		return err
	}
	reply := make(chan message, 1)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	c.next++
	id := c.next
	c.pending[id] = reply
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
	}()

	if err := c.write(message{ID: id, Method: method, Body: body}); err != nil {
		if _, ok := errors.AsType[*FrameSizeError](err); ok {
			return fmt.Errorf("%s: %w", method, err)
		}
		return fmt.Errorf("%s: %w: %w", method, ErrClosed, err)
	}
	select {
	case m := <-reply:
		if m.Error != nil {
			return m.Error
		}
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(m.Body, result); err != nil {
			return fmt.Errorf("%s: reply: %w", method, err)
		}
		return nil
	case <-c.done:
		return ErrClosed
	case <-ctx.Done():
		go c.write(message{ID: id, Off: true}) // a peer that does not read is not waited for
		return ctx.Err()
	}
}

// Notify sends a notice. Nil says that it was sent, not that it arrived.
func (c *Conn) Notify(method string, args any) error {
	body, err := json.Marshal(args)
	if err != nil {
		return err
	}
	return c.write(message{Method: method, Body: body})
}
