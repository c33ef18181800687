package kvm_test

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/internal/testkvm"
	"warder/kvm"
)

// looper runs a vCPU as its owner should: one thread for life, messages by
// channel, and a kick to be heard.
type looper struct {
	cpu      *kvm.VCPU
	tid      int
	messages chan func()
	stop     atomic.Bool
	done     chan error
	spurious atomic.Int64
}

func startLooper(cpu *kvm.VCPU) *looper {
	l := &looper{cpu: cpu, messages: make(chan func(), 64), done: make(chan error, 1)}
	ready := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		l.tid = unix.Gettid()
		close(ready)
		l.done <- l.loop()
	}()
	<-ready
	return l
}

func (l *looper) loop() error {
	for {
		for drained := false; !drained; {
			select {
			case f := <-l.messages:
				f()
			default:
				drained = true
			}
		}
		if l.stop.Load() {
			return nil
		}
		switch err := l.cpu.Run(); {
		case errors.Is(err, unix.EINTR):
			l.cpu.SetImmediateExit(false) // here and nowhere else
			l.spurious.Add(1)
		case err != nil:
			return err
		}
	}
}

// kick makes the loop take its messages: the flag for a vCPU that is about to
// enter the guest, the signal for one that is inside.
func (l *looper) kick() {
	l.cpu.SetImmediateExit(true)
	if err := unix.Tgkill(unix.Getpid(), l.tid, unix.SIGURG); err != nil {
		panic(err)
	}
}

// do runs f on the vCPU's thread, and says whether it did in time.
func (l *looper) do(f func()) bool {
	done := make(chan struct{})
	l.messages <- func() { f(); close(done) }
	l.kick()
	select {
	case <-done:
		return true
	case <-time.After(20 * time.Second):
		return false
	}
}

// Each message sent to a vCPU with a kick is taken, whatever the vCPU is doing:
// spinning in the guest, asleep in the kernel, or between two exits.
func TestNoKickIsLost(t *testing.T) {
	const senders = 8
	each := 250
	if testing.Short() {
		each = 100
	}
	for name, newGuest := range map[string]func(testing.TB) *testkvm.Guest{
		"spinning": spinGuest, "asleep": sleepGuest, "exiting": exitGuest,
	} {
		t.Run(name, func(t *testing.T) {
			l := startLooper(newGuest(t).CPU)
			var lost, taken atomic.Int64
			var wg sync.WaitGroup
			for range senders {
				wg.Go(func() {
					for i := 0; i < each && lost.Load() == 0; i++ {
						if !l.do(func() { taken.Add(1) }) {
							lost.Add(1)
						}
					}
				})
			}
			wg.Wait()
			l.messages <- func() { l.stop.Store(true) }
			l.kick()
			if err := <-l.done; err != nil {
				t.Fatal(err)
			}
			if lost.Load() != 0 || taken.Load() != int64(senders*each) {
				t.Errorf("%d of %d messages taken, %d waited for in vain", taken.Load(), senders*each, lost.Load())
			}
		})
	}
}

// With the flag set, KVM_RUN does not enter the guest; without, it does.
func TestImmediateExit(t *testing.T) {
	g := exitGuest(t)
	testkvm.NeedCap(t, g.VM, kvm.CapImmediateExit)
	g.CPU.SetImmediateExit(true)
	for range 3 {
		if err := g.CPU.Run(); !errors.Is(err, unix.EINTR) {
			t.Fatalf("Run = %v, want EINTR", err)
		}
	}
	g.CPU.SetImmediateExit(false)
	for {
		err := g.CPU.Run()
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
}

// Running, interrupted or not, and decoding cost no allocation.
func TestRunDoesNotAllocate(t *testing.T) {
	g := exitGuest(t)
	var n int
	step := func() {
		if g.CPU.Run() == nil {
			e := g.CPU.Exit()
			n += len(e.IO().Data) + len(e.MMIO().Data) + len(e.SystemEvent().Data) + len(e.InternalError().Data)
		}
	}
	if a := testing.AllocsPerRun(200, step); a != 0 {
		t.Errorf("%v allocations for an exit", a)
	}
	if n == 0 {
		t.Error("no exit had data")
	}
	g.CPU.SetImmediateExit(true)
	if a := testing.AllocsPerRun(200, step); a != 0 {
		t.Errorf("%v allocations for an interrupted run", a)
	}
}

func BenchmarkExit(b *testing.B) {
	g := exitGuest(b)
	for b.Loop() {
		if err := g.CPU.Run(); err != nil && !errors.Is(err, unix.EINTR) {
			b.Fatal(err)
		}
		g.CPU.Exit()
	}
}
