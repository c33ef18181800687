package virtq

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// soon is what a guest takes to see an answer and ask the next question. A time
	// slice of Linux is 0.7 ms or more.
	soon = 600 * time.Microsecond
	// rests is how many times as long as it took there is none after one that was
	// longer: that much of the time, at the most, is lost by it.
	rests = 16
)

// Linger lets others run once if a chain was taken since it did so last: this
// process's goroutines, which serve that chain, then other threads. It goes before
// Wait. Where they share a CPU the guest is one of those, and what it adds now needs no
// doorbell, and no way through the scheduler and the poller. Where each has a CPU it is a
// system call that returns at once.
//
// Where somebody else uses the CPU up the guest's next request would wait for that
// one's time slice, where a doorbell takes the CPU at once. So there is a rest after
// each that took long.
//
// It is not for a queue whose driver spins until it is answered, as that of Linux's
// console does. Linger belongs to the goroutine that pops.
func (q *Queue) Linger() {
	if q.next == q.lingered {
		return
	}
	q.lingered = q.next
	if time.Now().Before(q.rested) {
		return
	}
	q.worker.Idle(func() {
		runtime.Gosched()
		start := time.Now()
		_, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // it cannot fail
		q.rested = restAfter(start, time.Now())
	})
}

// restAfter is until when there is a rest after others ran from start to end.
func restAfter(start, end time.Time) time.Time {
	if took := end.Sub(start); took > soon {
		return end.Add(rests * took)
	}
	return end
}
