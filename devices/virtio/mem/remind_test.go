package mem

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"warder/devices/guestmem"
)

// blocks is a region that has room for whatever the driver asks.
type blocks struct{}

func (blocks) Plug(guestmem.Addr, uint64) error   { return nil }
func (blocks) Unplug(guestmem.Addr, uint64) error { return nil }

// TestRemind has a driver that does one thing a second, stops half-way, and is
// asked again.
func TestRemind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const block = 2 << 20
		d, err := New(Config{Memory: blocks{}, Size: 64 * block, Block: block})
		if err != nil {
			t.Fatal(err)
		}
		var notified atomic.Int64
		d.OnConfigChange(func() { notified.Add(1) })
		does := func(f func(first, n uint64) (response, error), first uint64) {
			t.Helper()
			d.mu.Lock()
			defer d.mu.Unlock()
			if resp, err := f(first, 1); resp != ack || err != nil {
				t.Fatalf("response %d, %v", resp, err)
			}
		}
		said := func(want int64, after time.Duration) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := notified.Load(); got != want {
				t.Fatalf("the driver was told %d times, want %d", got, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go d.remind(ctx)

		said(0, time.Hour) // nothing is wanted of it
		d.Request(8 * block)
		for i := range uint64(4) {
			does(d.plug, i)
			said(1, time.Second) // it is at it
		}
		said(2, 5*time.Second)
		said(3, 2*soonest)
		said(4, 4*soonest)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n, want := notified.Load()-4, int64(time.Hour/latest); n < want-1 || n > want+1 {
			t.Errorf("%d reminders in an hour, want one in %v", n, latest)
		}
		n := notified.Load()
		d.Request(4 * block) // which it has
		said(n+1, time.Hour)
		d.Request(3 * block)
		said(n+2, soonest/2)
		said(n+3, soonest)
		does(d.unplug, 3)
		said(n+3, time.Hour)
	})
}
