package sizing

import (
	"fmt"
	"time"
)

// The band of CPUs.
const (
	// A guest whose CPUs are busy for more than busy of the time, while programs wait
	// for one for more than waiting of it, is short of one.
	busy    = 0.8
	waiting = 0.25
	// One that would keep one CPU less busy for less than idle of the time has one
	// too much.
	idle = 0.5
	// span is the least time between two samples that says anything of CPUs.
	span = 200 * time.Millisecond
)

// CPU is how a guest has used its CPUs since its start.
type CPU struct {
	Used   time.Duration // by all of them: the host's account
	Waited time.Duration // how long some program has waited for one: the guest's word
	// Delayed is how long the vCPUs have waited for CPUs of the host: the host's account.
	Delayed time.Duration
}

// measure compares the use of CPUs, and of what is read, with that of a while ago.
func (st *State) measure(s Sample) {
	st.past = 0
	past := s.Time.Sub(st.since)
	if st.seen && past < span {
		return
	}
	if st.seen {
		st.past = past
		part := func(now, then time.Duration) float64 { return float64(now-then) / float64(past) }
		st.reading = float64(s.Read-min(st.read, s.Read)) > float64(s.Has.Memory)/reads*past.Seconds()
		st.used, st.waits, st.delay = part(s.CPU.Used, st.cpu.Used), part(s.CPU.Waited, st.cpu.Waited), part(s.CPU.Delayed, st.cpu.Delayed)
	}
	st.since, st.cpu, st.read = s.Time, s.CPU, s.Read
}

// nextCPUs gives how many CPUs the guest should have on line. A guest that only says
// that it needs one gets none: it has to use those that it has.
func (st *State) nextCPUs(s Sample, b Bounds) int {
	n := s.Asked.CPUs
	if st.past == 0 {
		return n // too little time to tell
	}
	switch {
	case st.used > busy*float64(n) && st.waits > waiting:
		st.richCPUs = time.Time{}
		if s.Has.CPUs < n {
			return n // one is on its way to it
		}
		return n + 1
	case st.used >= idle*float64(n-1):
		st.richCPUs = time.Time{}
	case st.richCPUs.IsZero():
		st.richCPUs = s.Time
	case s.Time.Sub(st.richCPUs) >= s.calm() && n > b.Min.CPUs:
		st.richCPUs = s.Time
		return n - 1
	}
	return n
}

// whyCPUs says what was known of the CPUs.
func (st *State) whyCPUs(s Sample) string {
	return fmt.Sprintf("%.2f CPUs used of %d", st.used, s.Asked.CPUs)
}
