package anomaly

import "time"

// What is told of one thing that a VM does again and again: the first time at once,
// then how often it was, once in holdTime.
const (
	holdTime = int64(time.Minute)
	// maxHeld is how many things of one VM are told apart.
	maxHeld = 256
)

// Held is one thing that a VM does again and again.
type Held struct {
	Action string
	// What tells several of one action apart: a port, a fault.
	What string
}

// Other is what there is of an action when a VM does too many to tell apart.
const Other = "others"

type holding struct {
	at    int64 // when it was told
	count int   // since then
}

// Does notes one more. Tell says that it is to be told now, as count of them.
func (m *Machine) Does(now int64, h Held) (count int, tell bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.held[h]
	if x == nil && len(m.held) >= maxHeld {
		h.What = Other
		x = m.held[h]
	}
	if x == nil {
		m.held[h] = &holding{at: now}
		return 1, true
	}
	x.count++
	if now-x.at < holdTime {
		return 0, false
	}
	count, x.count, x.at = x.count, 0, now
	return count, true
}

// Due gives what is to be told by now and was not, with how often it was, and forgets
// what has not been done for long.
func (m *Machine) Due(now int64, tell func(h Held, count int)) {
	type due struct {
		Held
		count int
	}
	var all []due
	m.mu.Lock()
	for h, x := range m.held {
		switch {
		case now-x.at < holdTime:
		case x.count == 0:
			delete(m.held, h)
		default:
			all = append(all, due{h, x.count})
			x.count, x.at = 0, now
		}
	}
	m.mu.Unlock()
	for _, d := range all {
		tell(d.Held, d.count)
	}
}
