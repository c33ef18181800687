package vmm

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"warder/kvm"
)

// What asking something of a machine gives when it does not run.
var (
	errEnded      = errors.New("vmm: the machine has ended")
	errNotStarted = errors.New("vmm: the machine has not been started")
)

// A VCPU is one virtual CPU. Its exported methods read and write the state of
// a vCPU that stands still: they may be called from a [TrapFunc], from the
// function given to [Machine.WithVCPUsStopped] or to [Machine.Do], and nowhere else.
type VCPU struct {
	m  *Machine
	id int
	fd *kvm.VCPU

	ctl  chan func() // what others want of this vCPU
	done chan struct{}

	// thread guards what a kick needs: the id of the vCPU's thread, and that the
	// run page is mapped and the id nobody else's, which both end with the loop.
	thread struct {
		sync.Mutex
		id    int // 0 before the loop runs
		gone  bool
		spent time.Duration // CPU time, when it was last asked for
	}

	debug debugged

	space atomic.Pointer[addressSpace]
	word  [8]byte // for what is read at an exit, on the vCPU's thread

	stats   vcpuStats
	counted *kvm.Stats // by KVM; nil where it does not
}

func newVCPU(m *Machine, id int, fd *kvm.VCPU) *VCPU {
	return &VCPU{m: m, id: id, fd: fd, ctl: make(chan func(), 16), done: make(chan struct{})}
}

// ID is the vCPU's number, from 0.
func (v *VCPU) ID() int { return v.id }

// loop runs the guest on this goroutine's thread until the machine ends. The
// goroutine never unlocks its thread, so the thread ends with it: nothing of what
// KVM bound to it is left for another goroutine.
func (v *VCPU) loop() {
	defer close(v.done)
	runtime.LockOSThread()
	if err := v.enterGroup(); err != nil {
		v.m.end(Exit{Reason: Failed, Err: err})
		return
	}
	defer v.leaveGroup()
	v.setThread(unix.Gettid(), false)
	defer v.setThread(0, true)
	for {
		v.drain()
		if v.m.hasEnded() {
			return
		}
		switch err := v.fd.Run(); {
		case err == nil:
			if exit := v.handle(); exit != nil {
				v.m.end(*exit)
				return
			}
		case errors.Is(err, unix.EINTR):
			// Only here: clearing the flag before KVM_RUN loses the kick that
			// came in between.
			v.fd.SetImmediateExit(false)
			v.stats.kicks.Add(1)
		case errors.Is(err, unix.EAGAIN):
			// A secondary vCPU has been woken and can be entered now.
		default:
			v.m.end(*v.crash(runError(err)))
			return
		}
	}
}

func (v *VCPU) setThread(id int, gone bool) {
	v.thread.Lock()
	defer v.thread.Unlock()
	if v.thread.id != 0 {
		v.thread.spent = threadTime(v.thread.id)
	}
	v.thread.id, v.thread.gone = id, gone
}

// drain runs every message that is there. Leaving one could leave it until the
// next exit, since its kick may have been used up already.
func (v *VCPU) drain() {
	for {
		select {
		case f := <-v.ctl:
			f()
		default:
			return
		}
	}
}

// call runs f on v's thread, between two exits, and waits for its result.
func (v *VCPU) call(f func(*VCPU) error) error {
	result := make(chan error, 1)
	select {
	case v.ctl <- func() { result <- f(v) }:
	case <-v.done:
		return errEnded
	}
	v.kick()
	select {
	case err := <-result:
		return err
	case <-v.done:
		// It may have been the last thing that the thread did.
		select {
		case err := <-result:
			return err
		default:
			return errEnded
		}
	}
}

// kick gets v out of KVM_RUN, or keeps it from going in. The message comes
// first, then this: flag, then signal. The flag alone does not wake a vCPU
// that is inside, the signal alone is lost on one that is about to enter.
// SIGURG is the signal that the Go runtime preempts with, so its handler is
// there, does nothing, and restarts nothing that KVM_RUN would resume.
func (v *VCPU) kick() {
	v.thread.Lock()
	defer v.thread.Unlock()
	if v.thread.gone {
		return
	}
	v.fd.SetImmediateExit(true)
	if v.thread.id != 0 {
		_ = unix.Tgkill(unix.Getpid(), v.thread.id, unix.SIGURG) // the thread is there
	}
}
