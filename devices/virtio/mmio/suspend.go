package mmio

import "warder/devices/virtio/virtq"

// Suspend holds the device up: when it returns, no queue of it touches guest
// memory, nor interrupts, until Resume. Requests in flight have been answered or
// wait with their answer; doorbells are kept. It must not be called while a vCPU
// could write to a register: a reset would wait for a worker that waits.
func (t *Transport) Suspend() { t.gate.Shut() }

// Resume lets the device go on where it was suspended.
func (t *Transport) Resume() { t.gate.Open() }

// Queues is how far each queue of the suspended device has got, nil for one that
// is not in service.
func (t *Transport) Queues() []*virtq.State {
	t.mu.Lock()
	defer t.mu.Unlock()
	states := make([]*virtq.State, len(t.queues))
	for i, q := range t.queues {
		if q.queue != nil {
			s := q.queue.State()
			states[i] = &s
		}
	}
	return states
}
