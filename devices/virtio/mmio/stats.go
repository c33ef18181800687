package mmio

import (
	"sync/atomic"

	"warder/devices/virtio/virtq"
)

// Stats counts what a device has done since the machine's start, over all
// resets.
type Stats struct {
	Chains      uint64 // answered, over all queues
	Interrupts  uint64 // raised
	NotifyExits uint64 // doorbells that took an exit to user space
	Resets      uint64 // by the driver, and at the machine's end
	Failures    uint64 // times the device stopped until reset
}

type counters struct {
	chains      atomic.Uint64 // of queues that are gone
	interrupts  atomic.Uint64
	notifyExits atomic.Uint64
	resets      atomic.Uint64
	failures    atomic.Uint64
}

// retire keeps what a queue counted that goes with a reset.
func (c *counters) retire(q *virtq.Queue) {
	if q != nil {
		c.chains.Add(q.Stats().Pushed)
	}
}

// Stats may be called at any time.
func (t *Transport) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Stats{
		Chains:      t.stats.chains.Load(),
		Interrupts:  t.stats.interrupts.Load(),
		NotifyExits: t.stats.notifyExits.Load(),
		Resets:      t.stats.resets.Load(),
		Failures:    t.stats.failures.Load(),
	}
	for _, q := range t.queues {
		if q.queue != nil {
			s.Chains += q.queue.Stats().Pushed
		}
	}
	return s
}
