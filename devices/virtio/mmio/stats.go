package mmio

import (
	"sync/atomic"

	"warder/devices/virtio/virtq"
)

// Stats counts what a device has done since the machine's start, over all
// resets.
type Stats struct {
	Chains      uint64 // answered, over all queues
	Sent        uint64 // bytes in the chains that the driver sent
	Received    uint64 // bytes in the device's answers
	Interrupts  uint64 // raised
	Wakeups     uint64 // doorbells that found the device asleep
	NotifyExits uint64 // doorbells that took an exit to user space
	Resets      uint64 // by the driver, and at the machine's end
	Failures    uint64 // times the device stopped until reset
}

type counters struct {
	queues      virtq.Counters
	interrupts  atomic.Uint64
	notifyExits atomic.Uint64
	resets      atomic.Uint64
	failures    atomic.Uint64
}

// Stats may be called at any time, also while a reset waits for the device.
func (t *Transport) Stats() Stats {
	return Stats{
		Chains:      t.stats.queues.Pushed.Load(),
		Sent:        t.stats.queues.Sent.Load(),
		Received:    t.stats.queues.Received.Load(),
		Interrupts:  t.stats.interrupts.Load(),
		Wakeups:     t.stats.queues.Wakeups.Load(),
		NotifyExits: t.stats.notifyExits.Load(),
		Resets:      t.stats.resets.Load(),
		Failures:    t.stats.failures.Load(),
	}
}
