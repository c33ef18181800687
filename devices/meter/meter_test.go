package meter

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// burn has the calling goroutine, whose thread is its own, use CPU time.
func burn(d time.Duration) {
	for end := clock() + d; clock() < end; {
	}
}

// TestSpent has two workers burn CPU time, at work and while they wait for something, of
// which the first alone is counted.
func TestSpent(t *testing.T) {
	const work, idle = 20 * time.Millisecond, 200 * time.Millisecond
	m := new(Meter)
	done := make(chan error, 2)
	for range cap(done) {
		go func() {
			done <- Work(t.Context(), m, func(ctx context.Context) error {
				w := Of(ctx)
				if w.Meter() != m {
					t.Error("it is measured by another meter")
				}
				burn(work / 2)
				before := m.Spent()
				if w.Lap(); m.Spent()-before < work/2 {
					t.Errorf("%v of %v counted", m.Spent()-before, work/2)
				}
				burn(work / 2)
				w.Idle(func() {
					runtime.LockOSThread()
					defer runtime.UnlockOSThread()
					burn(idle)
				})
				return nil
			})
		}()
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := m.Spent(); got < 2*work || got >= idle {
		t.Errorf("%v counted, want %v and a little more", got, 2*work)
	}
}

// TestEndIsCounted has what was done last before an error or a panic count.
func TestEndIsCounted(t *testing.T) {
	broken := errors.New("broken")
	for name, end := range map[string]func() error{
		"error": func() error { return broken },
		"panic": func() error { panic(broken) },
	} {
		m := new(Meter)
		err := func() (err error) {
			defer func() {
				if p := recover(); p != nil {
					err = p.(error)
				}
			}()
			return Work(t.Context(), m, func(context.Context) error {
				burn(time.Millisecond)
				return end()
			})
		}()
		if err != broken || m.Spent() < time.Millisecond {
			t.Errorf("%s: %v, %v counted", name, err, m.Spent())
		}
	}
}

// TestHold has a worker that is held after each piece of work stand still, at the
// beginning, between two and when it has waited, until it is let go or its context ends.
func TestHold(t *testing.T) {
	for name, next := range map[string]func(*Worker){
		"between two":   (*Worker).Lap,
		"after waiting": func(w *Worker) { w.Idle(w.Stand) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const pieces = 10
				var gates [pieces + 1]chan struct{}
				for i := range gates {
					gates[i] = make(chan struct{})
				}
				m := new(Meter)
				m.Hold(gates[0])
				ctx, cancel := context.WithCancel(t.Context())
				var did atomic.Int32
				ended := make(chan error, 1)
				go func() {
					ended <- Work(ctx, m, func(ctx context.Context) error {
						for ctx.Err() == nil {
							m.Hold(gates[did.Add(1)])
							next(Of(ctx))
						}
						return nil
					})
				}()
				for i := range pieces {
					synctest.Wait()
					if n := did.Load(); n != int32(i) {
						t.Fatalf("it worked %d times, want %d", n, i)
					}
					close(gates[i])
				}
				synctest.Wait()
				cancel()
				if err := <-ended; err != nil || did.Load() != pieces {
					t.Errorf("it worked %d times, want %d: %v", did.Load(), pieces, err)
				}
			})
		})
	}
}

// TestHeldAgain has a worker that is let go by one who holds it stand still for the next.
func TestHeldAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(Meter)
		first, second := make(chan struct{}), make(chan struct{})
		m.Hold(first)
		var works atomic.Bool
		go Work(t.Context(), m, func(context.Context) error { works.Store(true); return nil })
		synctest.Wait()
		m.Hold(second)
		close(first)
		synctest.Wait()
		if works.Load() {
			t.Error("it works, and should stand still")
		}
		close(second)
		synctest.Wait()
		if !works.Load() {
			t.Error("it stands still")
		}
	})
}

// TestNobodyMeasures has a worker without a meter do as one with it.
func TestNobodyMeasures(t *testing.T) {
	err := Work(t.Context(), nil, func(ctx context.Context) error {
		w := Of(ctx)
		waited := false
		w.Lap()
		w.Stand()
		w.Idle(func() { waited = true })
		if w != nil || w.Meter() != nil || !waited {
			t.Errorf("%v, waited: %v", w, waited)
		}
		return ctx.Err()
	})
	if err != nil {
		t.Error(err)
	}
}

// TestNoAllocations holds that to be measured makes no work for the garbage collector.
func TestNoAllocations(t *testing.T) {
	for name, m := range map[string]*Meter{"measured": new(Meter), "not": nil} {
		_ = Work(t.Context(), m, func(ctx context.Context) error {
			w := Of(ctx)
			var got int
			if n := testing.AllocsPerRun(100, func() {
				w.Lap()
				w.Idle(func() { got++; w.Stand() })
			}); n != 0 || got == 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
			return nil
		})
	}
}

func BenchmarkWorker(b *testing.B) {
	for _, c := range []struct {
		name string
		m    *Meter
	}{{"measured", new(Meter)}, {"not", nil}} {
		_ = Work(b.Context(), c.m, func(ctx context.Context) error {
			w := Of(ctx)
			b.Run(c.name+"/lap", func(b *testing.B) {
				for b.Loop() {
					w.Lap()
				}
			})
			return nil
		})
		b.Run(c.name+"/idle", func(b *testing.B) {
			_ = Work(b.Context(), c.m, func(ctx context.Context) error {
				w := Of(ctx)
				var n int
				for b.Loop() {
					w.Idle(func() { n++ })
				}
				return nil
			})
		})
	}
}
