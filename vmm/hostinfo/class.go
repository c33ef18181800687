package hostinfo

import (
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"warder/kvm"
)

// Class is what kind of KVM a host has.
type Class string

// The classes.
const (
	// Hardware: guest code runs on the processor. (The processor may itself be
	// emulated, as in the lab: then guest and host are equally slow.)
	Hardware Class = "hardware"
	// Emulating: /dev/kvm is there, but privileged guest code is emulated, a
	// thousand times slower. Tests of a few instructions run, Linux does not.
	Emulating Class = "emulating"
	// None: there is no KVM, or this user must not use it.
	None Class = "none"
)

// KVM is what the timed loop has found.
type KVM struct {
	Path  string `json:"path"`
	Class Class  `json:"class"`
	// Guest and Native are how long one round of the loop takes, in a guest's
	// kernel mode and on the host, in nanoseconds; zero where it did not run.
	Guest  float64 `json:"guest_ns"`
	Native float64 `json:"native_ns"`
	// Reason is a sentence that says why the class is what it is; Todo what a
	// person can do about it, "" where nothing needs to be done.
	Reason string `json:"reason"`
	Todo   string `json:"todo,omitempty"`
}

// emulatingRatio is where hardware ends. A processor runs the loop as fast in a
// guest (1.0, and up to 3 were seen for the first rounds under load); an
// emulator of single instructions is slower by a factor of hundreds.
const emulatingRatio = 30

// deadline is how long one run of the loop may take: a KVM that does not come
// back must not hang what asks about it. The work of one run is milliseconds,
// the rest is for hosts that are short of processors.
const deadline = 10 * time.Second

// lab is the way out that every host has.
const lab = "use --lab, which brings its own KVM under QEMU"

// measurements is how often the loops are timed before a KVM is called emulating.
const measurements = 5

// KVMClass classifies the KVM at path by running a loop of two instructions in
// the kernel mode of a guest, and the same loop here. It takes some milliseconds.
func KVMClass(path string) KVM {
	if path == "" {
		path = kvm.Path
	}
	k := KVM{Path: path, Class: None}
	if err := k.measure(func() (float64, error) { return guestRound(path) }, nativeRound); err != nil {
		k.Reason, k.Todo = explain(err)
		return k
	}
	k.judge()
	return k
}

// measure fills in the two times. What else the machine does only ever makes a
// loop slower, on a machine that is short of processors by any factor: so the
// fastest counts, and one that is fast enough ends the search.
func (k *KVM) measure(guest, native func() (float64, error)) error {
	for i := range measurements {
		g, err := guest()
		if err != nil {
			return err
		}
		n, err := native()
		if err != nil {
			return err
		}
		if i > 0 {
			g, n = min(g, k.Guest), min(n, k.Native)
		}
		k.Guest, k.Native = g, n
		if k.fast() {
			break
		}
	}
	return nil
}

// fast reports whether the guest's loop ran on a processor.
func (k *KVM) fast() bool { return k.Guest/k.Native < emulatingRatio }

// judge fills in the class from the two times.
func (k *KVM) judge() {
	ratio := k.Guest / k.Native
	if k.fast() {
		k.Class = Hardware
		k.Reason = fmt.Sprintf("a loop in the guest's kernel mode takes %.1f times as long as on the host", max(ratio, 0.1))
		return
	}
	k.Class = Emulating
	k.Reason = fmt.Sprintf("a loop in the guest's kernel mode takes %.0f times as long as on the host", ratio)
	k.Todo = "a machine with hardware virtualisation is needed, or nested virtualisation turned on where this is a VM; or " + lab
}

// explain turns an error of kvm.Open into reason and todo.
func explain(err error) (reason, todo string) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no KVM device", kvm.HowTo + "; or " + lab
	case errors.Is(err, fs.ErrPermission):
		return "this user must not open the KVM device", "usermod -aG kvm $USER and log in again, or run as root; or " + lab
	case errors.Is(err, kvm.ErrNotKVM):
		return err.Error(), "remove the file; " + kvm.HowTo + "; or " + lab
	}
	return err.Error(), lab
}

// guestRound is the time of one round in a guest's kernel mode, in nanoseconds.
func guestRound(path string) (ns float64, err error) {
	sys, err := kvm.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, sys.Close()) }()
	g, err := newLoopGuest(sys)
	if err != nil {
		return 0, fmt.Errorf("%s does not run a guest: %w", path, err)
	}
	defer func() { err = errors.Join(err, g.close()) }()

	runtime.LockOSThread() // KVM wants a vCPU on one thread
	defer runtime.UnlockOSThread()
	return perRound(g.run)
}

// run is how long n rounds take. The caller's goroutine keeps its thread.
func (g *loopGuest) run(n uint64) (time.Duration, error) {
	if err := g.setRounds(n); err != nil {
		return 0, err
	}
	start := time.Now()
	r, err := g.once()
	if err != nil {
		return 0, err
	}
	if r != loopExit {
		return 0, fmt.Errorf("a guest of four instructions ended with %v, not %v", r, loopExit)
	}
	return time.Since(start), nil
}

// once runs the guest to its next exit. The caller's goroutine keeps its thread.
func (g *loopGuest) once() (kvm.ExitReason, error) {
	tid, done := unix.Gettid(), make(chan struct{})
	kick := time.AfterFunc(deadline, func() {
		defer close(done)
		g.cpu.SetImmediateExit(true)
		_ = unix.Tgkill(unix.Getpid(), tid, unix.SIGURG)
	})
	defer func() {
		if !kick.Stop() {
			<-done // the vCPU must outlive the kick
		}
	}()
	start := time.Now()
	for {
		switch err := g.cpu.Run(); {
		case errors.Is(err, unix.EINTR) && time.Since(start) < deadline:
			continue
		case errors.Is(err, unix.EINTR):
			return 0, fmt.Errorf("a guest of four instructions was not done after %v", deadline)
		case err != nil:
			return 0, fmt.Errorf("KVM_RUN: %w", err)
		}
		return g.cpu.Exit().Reason, nil
	}
}

// nativeRound is the time of one round on the host, in nanoseconds.
func nativeRound() (ns float64, err error) {
	return perRound(func(n uint64) (time.Duration, error) {
		start := time.Now()
		spin(n)
		return time.Since(start), nil
	})
}

// perRound is the time of one of the rounds that run does, in nanoseconds,
// without what a call of run costs by itself.
func perRound(run func(rounds uint64) (time.Duration, error)) (float64, error) {
	const (
		enough = 2 * time.Millisecond // next to which an exit is nothing
		most   = 1 << 25              // for a clock that stands still
		tries  = 3                    // the fastest counts: others were interrupted
	)
	fastest := func(n uint64) (time.Duration, error) {
		best := time.Duration(1<<63 - 1)
		for range tries {
			d, err := run(n)
			if err != nil {
				return 0, err
			}
			best = min(best, d)
		}
		return best, nil
	}
	call, err := fastest(1)
	if err != nil {
		return 0, err
	}
	for n := uint64(1 << 10); ; n *= 8 {
		d, err := fastest(n)
		if err != nil {
			return 0, err
		}
		if d-call > enough || n >= most {
			return float64(max(d-call, 1)) / float64(n), nil
		}
	}
}
