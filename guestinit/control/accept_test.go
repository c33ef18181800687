package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"warder/guestinit/proto"
)

// pipes is a listener in this process.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return nil }

func (p *pipes) dial() net.Conn {
	host, guest := net.Pipe()
	p.conns <- host
	return guest
}

// TestAcceptSlowly boots guests that stand still at each step of their way to
// the host: the time that they have is ctx's alone. The clock is synctest's.
func TestAcceptSlowly(t *testing.T) {
	const (
		bootTime = 10 * time.Minute
		pause    = bootTime / 4
	)
	dialled := func(t *testing.T, p *pipes) net.Conn {
		time.Sleep(pause)
		conn := p.dial()
		time.Sleep(pause)
		if err := proto.WritePreamble(conn, proto.Preamble{Role: proto.Control}); err != nil {
			t.Error(err)
		}
		time.Sleep(pause)
		return conn
	}
	for name, tt := range map[string]struct {
		guest func(*testing.T, *pipes) net.Conn
		check func(*Guest, error) bool
	}{
		"comes up in time": {
			func(t *testing.T, p *pipes) net.Conn {
				conn := p.dial()
				time.Sleep(pause)
				if err := proto.Greet(&delayed{Conn: conn, pause: pause}, proto.Hello{Kernel: "6.12"}); err != nil {
					t.Error(err)
				}
				return conn
			},
			func(g *Guest, err error) bool { return err == nil && g.Hello().Kernel == "6.12" },
		},
		"hangs up": {
			func(t *testing.T, p *pipes) net.Conn {
				conn := dialled(t, p)
				conn.Close()
				return conn
			},
			func(_ *Guest, err error) bool {
				_, ok := errors.AsType[*HelloError](err)
				return ok && errors.Is(err, ErrGone)
			},
		},
		"says no hello": {
			dialled,
			func(_ *Guest, err error) bool {
				_, ok := errors.AsType[*HelloError](err)
				return ok && errors.Is(err, context.DeadlineExceeded)
			},
		},
		"never dials": {
			func(*testing.T, *pipes) net.Conn { return nil },
			func(_ *Guest, err error) bool {
				_, ok := errors.AsType[*HelloError](err)
				return !ok && errors.Is(err, context.DeadlineExceeded)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), bootTime)
				defer cancel()
				p := newPipes()
				var guest sync.WaitGroup
				guest.Go(func() {
					if conn := tt.guest(t, p); conn != nil {
						t.Cleanup(func() { conn.Close() })
					}
				})
				g, err := Accept(ctx, p, slog.New(slog.DiscardHandler))
				if !tt.check(g, err) {
					t.Errorf("guest %v, error %v", g, err)
				}
				guest.Wait()
				if g != nil {
					g.Close()
				}
			})
		})
	}
}

// delayed pauses before each of its writes.
type delayed struct {
	net.Conn
	pause time.Duration
}

func (d *delayed) Write(p []byte) (int, error) {
	time.Sleep(d.pause)
	return d.Conn.Write(p)
}

// TestStreamsSlowly has a guest that starts its command and then stands still
// before the command's output arrives.
func TestStreamsSlowly(t *testing.T) {
	for name, tt := range map[string]struct {
		after time.Duration
		want  error
	}{
		"for a while":    {streamTimeout - time.Second, nil},
		"for ever after": {streamTimeout + time.Second, ErrStalled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipes()
				started := make(chan proto.Token, 1)
				var guest sync.WaitGroup
				guest.Go(func() {
					conn := p.dial()
					if err := proto.Greet(conn, proto.Hello{}); err != nil {
						t.Error(err)
						return
					}
					proto.NewConn(conn, maxCalls, func(_ context.Context, method string, body json.RawMessage) (any, error) {
						var s proto.Start
						if err := json.Unmarshal(body, &s); method == proto.MethodStart && err == nil {
							started <- s.Token
						}
						return proto.Started{PID: 2}, nil
					}).Serve(t.Context())
				})
				guest.Go(func() {
					token := <-started
					time.Sleep(tt.after)
					conn := p.dial()
					defer conn.Close()
					if err := proto.WritePreamble(conn, proto.Preamble{Role: proto.Stdout, Token: token}); err != nil {
						t.Error(err)
					}
				})
				g, err := Accept(t.Context(), p, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := g.Start(t.Context(), proto.Command{Args: []string{"x"}}, Stdio{Out: io.Discard}); !errors.Is(err, tt.want) {
					t.Errorf("error %v, want %v", err, tt.want)
				}
				time.Sleep(2 * time.Second) // for the stream that comes too late
				g.Close()
				guest.Wait()
			})
		})
	}
}
