package mem

import (
	"context"
	"time"
)

// A driver that could not do all it was asked to (a page was in use, memory for
// the new memory's own management was short) is reminded after soonest, and then
// ever less often. Left alone, Linux tries again after 50 seconds and later only
// every five minutes (VIRTIO_MEM_RETRY_TIMER_MIN_MS, _MAX_MS in
// drivers/virtio/virtio_mem.c), and a host that waits for memory can't.
const (
	soonest = 2 * time.Second
	latest  = 32 * time.Second
)

// remind reminds the driver until ctx ends. While there is nothing to do it sets
// no timer.
func (d *Device) remind(ctx context.Context) {
	timer := time.NewTimer(soonest)
	defer timer.Stop()
	for wait, had := soonest, d.State().Plugged; ; timer.Reset(wait) {
		select {
		case <-ctx.Done():
			return
		case <-d.asked:
			wait = soonest
			continue
		case <-timer.C:
		}
		switch s := d.State(); {
		case s.Plugged == s.Requested:
			select {
			case <-ctx.Done():
				return
			case <-d.asked:
				wait = soonest
			}
		case s.Plugged != had: // it is at it
			wait, had = soonest, s.Plugged
		default:
			d.notify()
			wait = min(2*wait, latest)
		}
	}
}
