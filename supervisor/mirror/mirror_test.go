package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"warder/supervisor"
	"warder/supervisor/decision"
	"warder/supervisor/declaration"
	"warder/supervisor/hosting"
	"warder/supervisor/verify"
)

// nothing is a machine that has no VMs.
type nothing struct{}

func (nothing) Claim(declaration.Service) (verify.Claim, error)                 { return verify.Claim{}, nil }
func (nothing) Join(_ declaration.Service, keep func([]netip.Addr) error) error { return keep(nil) }
func (nothing) Leave(string)                                                    {}
func (nothing) Measure() (map[string]uint64, uint64)                            { return nil, 0 }
func (nothing) Boot(context.Context, declaration.Service) (hosting.VM, error) {
	return nil, errors.New("there are none")
}

var errNoMemory = errors.New("no memory")

// fakeMaker makes supervisors that are goroutines.
type fakeMaker struct {
	mu   sync.Mutex
	made []*fake
	fail int           // so many times from now on
	err  error         // then
	slow time.Duration // to be made
}

func (m *fakeMaker) Make(ctx context.Context) (Supervisor, error) {
	time.Sleep(m.slow)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail > 0 {
		m.fail--
		return nil, cmp.Or(m.err, errNoMemory)
	}
	here, there := net.Pipe()
	f := &fake{conn: here, done: make(chan struct{}), there: &deaf{Conn: there, hung: make(chan struct{})}}
	f.served.Go(func() { decision.Serve(context.Background(), f.there) })
	m.made = append(m.made, f)
	return f, nil
}

// last is the supervisor that was made last, of how many.
func (m *fakeMaker) last() (*fake, int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.made[len(m.made)-1], len(m.made)
}

type fake struct {
	conn   net.Conn
	there  *deaf
	served sync.WaitGroup
	done   chan struct{}
	mu     sync.Mutex
	halted bool
	lost   bool
}

func (f *fake) Conn() io.ReadWriteCloser { return f.conn }
func (f *fake) Done() <-chan struct{}    { return f.done }
func (f *fake) Why() error               { return errors.New("its program ended with status 2") }

func (f *fake) Halt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.halted = true
	f.conn.Close()
}

func (f *fake) Discard(lost bool) (string, error) {
	f.mu.Lock()
	f.lost = lost
	halted := f.halted
	f.mu.Unlock()
	if !halted {
		return "", errors.New("discarded while it ran")
	}
	f.served.Wait()
	if lost {
		return "a file", nil
	}
	return "", nil
}

// deaf is a connection whose end can stop reading.
type deaf struct {
	net.Conn
	once sync.Once
	hung chan struct{}
}

func (d *deaf) hang() { d.once.Do(func() { close(d.hung) }) }

func (d *deaf) Read(p []byte) (int, error) {
	n, err := d.Conn.Read(p)
	select {
	case <-d.hung:
		io.Copy(io.Discard, d.Conn) // until it is closed: nothing is answered
		return 0, io.EOF
	default:
	}
	return n, err
}

// kept is a keeper with what it told.
type kept struct {
	*Keeper
	maker *fakeMaker
	host  *hosting.Host
	mu    sync.Mutex
	told  []string
}

func keepOne(t *testing.T, m *fakeMaker) *kept {
	t.Helper()
	k := &kept{maker: m, host: hosting.New(nothing{}, nil, hosting.Config{})}
	if err := k.host.Declare(declaration.Service{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	var err error
	k.Keeper, err = Start(t.Context(), k.host, m, func(e Event) {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.told = append(k.told, strings.TrimPrefix(e.Action, "supervisor-")+": "+e.Text)
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (k *kept) events(t *testing.T, want ...string) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.told) != len(want) {
		t.Errorf("told: %q, want %q", k.told, want)
		return
	}
	slices.Sort(k.told) // what is kept is told when it is
	slices.Sort(want)
	for i, w := range want {
		if !strings.Contains(k.told[i], w) {
			t.Errorf("told: %q, want %q", k.told[i], w)
		}
	}
}

func (k *kept) over(t *testing.T) {
	t.Helper()
	if err := k.host.Close(t.Context()); err != nil {
		t.Error(err)
	}
	k.Close()
	for i, f := range k.maker.made {
		f.mu.Lock()
		if !f.halted || f.lost != (i < len(k.maker.made)-1) {
			t.Errorf("supervisor %d: halted %v, lost %v", i, f.halted, f.lost)
		}
		f.mu.Unlock()
	}
}

// Whatever becomes of a supervisor, there is another, and who asked is answered.
func TestLosses(t *testing.T) {
	for name, tt := range map[string]struct {
		lose  func(k *kept, f *fake)
		says  string
		least time.Duration // until the next one is there
	}{
		"ends":        {func(_ *kept, f *fake) { close(f.done) }, "status 2", time.Second},
		"hangs up":    {func(_ *kept, f *fake) { f.there.Close() }, "it hung up", time.Second},
		"hangs":       {func(_ *kept, f *fake) { f.there.hang() }, "does not answer", patience},
		"is replaced": {func(k *kept, _ *fake) { go k.Mirror(context.Background(), "because") }, "because", time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &fakeMaker{slow: time.Second}
				k := keepOne(t, m)
				time.Sleep(time.Hour)
				first, n := m.last()
				if st := k.Status(); n != 1 || !st.Up || st.Mirrors != 0 {
					t.Errorf("after an hour: %d of them, %+v", n, st)
				}
				began := time.Now()
				tt.lose(k, first)
				if name != "is replaced" {
					synctest.Wait()
				} else {
					time.Sleep(time.Millisecond)
				}
				if _, err := k.host.Status(t.Context(), "a"); err != nil {
					t.Error(err)
				}
				for !k.Status().Up || k.Status().Mirrors == 0 {
					time.Sleep(time.Millisecond)
				}
				if took := time.Since(began); took < tt.least || took > tt.least+2*patience+2*beat {
					t.Errorf("it took %v", took)
				}
				synctest.Wait() // it is up, and that is being told
				st := k.Status()
				if _, n := m.last(); n != 2 || st.Mirrors != 1 || !strings.Contains(st.Reason, tt.says) || st.Took < time.Second || st.Took > 3*time.Second {
					t.Errorf("%d of them, %+v", n, st)
				}
				k.events(t, "started: ", "lost: ", "mirrored: another one answers", "kept: ")
				k.over(t)
			})
		})
	}
}

// One that cannot be made is tried again, more and more slowly, and one order more
// or less is the same.
func TestMakeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &fakeMaker{}
		k := keepOne(t, m)
		time.Sleep(time.Hour)
		m.fail = 3
		began := time.Now()
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				if st, err := k.Mirror(t.Context(), "because"); err != nil || st.Mirrors != 1 {
					t.Errorf("%+v, %v", st, err)
				}
			})
		}
		time.Sleep(5 * time.Second)
		if st := k.Status(); st.Up || st.Failed != "no memory" {
			t.Errorf("%+v", st)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := k.host.List(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("nobody is there to ask: %v", err)
		}
		all.Wait()
		// At once, then after 2, 4 and 8 seconds.
		if took := time.Since(began); took != 14*time.Second {
			t.Errorf("it took %v", took)
		}
		k.over(t)
	})
}

// One after the other that does not last for a moment does not keep the host busy.
func TestNoneLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &fakeMaker{}
		k := keepOne(t, m)
		for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if f, _ := m.last(); k.Status().Up {
				select {
				case <-f.done:
				default:
					close(f.done)
				}
			}
		}
		if _, n := m.last(); n < 8 || n > 20 {
			t.Errorf("%d of them in ten minutes", n)
		}
		for !k.Status().Up {
			time.Sleep(time.Second)
		}
		k.over(t)
	})
}

// A first one whose guest failed is tried again, and told of.
func TestFirstIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := fmt.Errorf("its VM: %w", &supervisor.GuestError{Cause: "it stands still"})
		k := keepOne(t, &fakeMaker{fail: firstTries - 1, err: stuck})
		if st := k.Status(); !st.Up || st.Mirrors != 0 {
			t.Errorf("%+v", st)
		}
		k.events(t, "failed: its VM: it stands still", "failed: its VM: it stands still", "started: ")
		k.over(t)
	})
}

func TestFirstFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := hosting.New(nothing{}, nil, hosting.Config{PolicyFile: "p", Policies: "permit ("})
		if _, err := Start(t.Context(), h, &fakeMaker{fail: 1}, func(Event) {}, slog.New(slog.DiscardHandler)); err == nil || err.Error() != "no memory" {
			t.Errorf("%v", err)
		}
		stuck := fmt.Errorf("its VM: %w", &supervisor.GuestError{Cause: "it stands still"})
		if _, err := Start(t.Context(), h, &fakeMaker{fail: firstTries, err: stuck}, func(Event) {}, slog.New(slog.DiscardHandler)); !errors.Is(err, stuck) {
			t.Errorf("none of its guests comes up: %v", err)
		}
		if _, err := Start(t.Context(), h, &fakeMaker{}, func(Event) {}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "p") {
			t.Errorf("with policies that are none: %v", err)
		}
	})
}
