package vmm

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"warder/devices/guestmem"
)

// A StopReason is why a vCPU has stopped for a debugger.
type StopReason int

const (
	// Stepped: it has done the one instruction that it was to do.
	Stepped StopReason = iota + 1
	// AtBreakpoint: it is about to run into a breakpoint of [Debugger.Break].
	AtBreakpoint
	// AtHardwareBreakpoint: it is about to do the instruction that a
	// [Watchpoint] for execution is at.
	AtHardwareBreakpoint
	// AtWatchpoint: it accesses what a [Watchpoint] is at. On amd64 the access
	// is done, on arm64 it is about to be.
	AtWatchpoint
)

// A Stop is a vCPU that has stopped by itself.
type Stop struct {
	VCPU   int
	Reason StopReason
	// Addr is the virtual address of the breakpoint, or of what was accessed.
	Addr uint64
}

// A Debugger has a machine's vCPUs stop. While there is one it decides, with
// the traps, which debug events of a vCPU leave the guest: the guest's own
// breakpoint instructions and single steps are given back to it. Registers for
// hardware breakpoints that the guest has set have no effect while the debugger
// has some.
//
// Its methods are for one goroutine, which is no vCPU's.
type Debugger struct {
	m *Machine
	// hardware is what the vCPUs get when they next go on.
	hardware []Watchpoint
	stepMode uint32 // what KVM is told to step

	using sync.Mutex // held while guest memory is used, or the machine closes
	gone  bool       // the memory is

	hit chan struct{} // has a value when there is something in stops

	mu     sync.Mutex
	gates  []chan struct{} // what each vCPU stands at, nil while it runs
	stops  []Stop
	breaks map[uint64]breakpoint // by virtual address
}

// debugged is what a debugger has a vCPU do. It belongs to the vCPU's thread.
type debugged struct {
	hardware []Watchpoint
	software bool
	step     bool
	stepMode uint32
	stepping stepping
	settling bool // an instruction that has exited is being completed
	trapping bool // it is at a hook, of which the trap function says what becomes
}

var errDebugged = errors.New("vmm: the machine has a debugger already")

// Debug attaches a debugger. The machine goes on until [Debugger.Halt].
func (m *Machine) Debug() (*Debugger, error) {
	d := &Debugger{m: m, hit: make(chan struct{}, 1), gates: make([]chan struct{}, len(m.vcpus)), breaks: map[uint64]breakpoint{}}
	var err error
	if d.stepMode, err = m.stepMode(); err != nil {
		return nil, err
	}
	if !m.debugger.CompareAndSwap(nil, d) {
		return nil, errDebugged
	}
	if m.hasEnded() { // and may be closed before it knew of d
		m.debugger.CompareAndSwap(d, nil)
		return nil, errEnded
	}
	return d, nil
}

// Halt has all vCPUs stand still and, once the machine has been started,
// returns when they do. Those that stand still already stay as they are. Before
// the start it has them stand before their first instruction. Devices go on,
// but for the watchdog.
func (d *Debugger) Halt() error {
	d.m.stopWatchdog(d)
	held := make(chan struct{}, len(d.m.vcpus))
	n := 0
	for i, v := range d.m.vcpus {
		gate, stands := d.gate(i)
		if stands {
			continue
		}
		n++
		stop := func() { v.settle(); held <- struct{}{}; v.stand(gate) }
		select {
		case v.ctl <- stop:
			v.kick()
		case <-d.m.ending:
			return errEnded
		}
	}
	if !d.m.started.Load() {
		return nil
	}
	for range n {
		select {
		case <-held:
		case <-d.m.ending:
			return errEnded
		}
	}
	return nil
}

// gate is what vCPU i stands at from now on, and whether it did before.
func (d *Debugger) gate(i int) (gate chan struct{}, stood bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gates[i] != nil {
		return d.gates[i], true
	}
	d.gates[i] = make(chan struct{})
	return d.gates[i], false
}

// On runs f on the thread of a vCPU, which stands still or stops for it.
func (d *Debugger) On(vcpu int, f func(*VCPU) error) error {
	v := d.m.VCPU(vcpu)
	if v == nil {
		return fmt.Errorf("vmm: no vCPU %d", vcpu)
	}
	return v.call(f)
}

// Hits has a value when a vCPU has stopped by itself, for [Debugger.Stop] to
// tell. The other vCPUs run on until [Debugger.Halt].
func (d *Debugger) Hits() <-chan struct{} { return d.hit }

// Stop takes the oldest stop that nobody has taken yet.
func (d *Debugger) Stop() (s Stop, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.stops) == 0 {
		return s, false
	}
	s, d.stops = d.stops[0], d.stops[1:]
	return s, true
}

// stopped has the vCPU stand still by what it has run into. It is called on the
// vCPU's thread.
func (d *Debugger) stopped(v *VCPU, s Stop) {
	s.VCPU = v.id
	v.settle()
	gate, _ := d.gate(v.id)
	d.mu.Lock()
	d.stops = append(d.stops, s)
	d.mu.Unlock()
	d.signal()
	if !v.debug.settling { // else it is about to stand
		v.stand(gate)
	}
}

func (d *Debugger) signal() {
	select {
	case d.hit <- struct{}{}:
	default:
	}
}

// A Resumption is a vCPU that is to go on.
type Resumption struct {
	VCPU int
	Step bool // one instruction
}

// Resume has vCPUs that stand still go on; the others stay. A vCPU that had
// stopped without [Debugger.Stop] having told it stops again: by itself where it
// is about to do what it stopped for, and else at once, with all others.
func (d *Debugger) Resume(which ...Resumption) error {
	d.mu.Lock()
	d.stops = slices.DeleteFunc(d.stops, func(s Stop) bool { return s.Reason != AtWatchpoint })
	pending := len(d.stops) > 0
	d.mu.Unlock()
	if pending {
		d.signal()
		return nil
	}
	select {
	case <-d.hit:
	default:
	}
	d.m.startWatchdog(d)
	for _, r := range which {
		err := d.On(r.VCPU, func(v *VCPU) error {
			v.debug.step, v.debug.stepMode = r.Step, d.stepMode
			v.debug.hardware, v.debug.software = d.hardware, len(d.breaks) > 0
			if r.Step {
				if err := v.beginStep(); err != nil {
					return err
				}
			}
			return v.applyDebug()
		})
		if err != nil {
			return err
		}
	}
	for _, r := range which {
		d.release(r.VCPU)
	}
	return nil
}

// release lets vCPU i go, if it stands.
func (d *Debugger) release(i int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gates[i] != nil {
		close(d.gates[i])
		d.gates[i] = nil
	}
}

// Close takes the debugger's breakpoints away and lets the machine go on. The
// debugger is of no use afterwards.
func (d *Debugger) Close() error {
	var errs []error
	if !d.m.hasEnded() {
		errs = append(errs, d.Halt(), d.clear())
	}
	d.hardware = nil
	d.m.debugger.CompareAndSwap(d, nil)
	d.m.startWatchdog(d)
	for i, v := range d.m.vcpus {
		if d.m.started.Load() {
			err := v.call(func(v *VCPU) error {
				v.debug = debugged{settling: v.debug.settling, trapping: v.debug.trapping}
				return v.applyDebug()
			})
			if err != nil && !errors.Is(err, errEnded) {
				errs = append(errs, err)
			}
		}
		d.release(i)
	}
	return errors.Join(errs...)
}

// clear takes all breakpoint instructions out of the guest's memory.
func (d *Debugger) clear() error {
	var errs []error
	for va := range d.breaks {
		errs = append(errs, d.Unbreak(va))
	}
	return errors.Join(errs...)
}

// breakAt says whether the debugger has a breakpoint instruction at va.
func (d *Debugger) breakAt(va uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.breaks[va]
	return ok
}

// steps has the vCPU stop if it was to do one instruction, which is done.
func (v *VCPU) steps() {
	if d := v.m.debugger.Load(); d != nil && v.debug.step {
		d.stopped(v, Stop{Reason: Stepped, Addr: v.PC()})
	}
}

// A breakpoint is an instruction of the debugger's in place of the guest's.
type breakpoint struct {
	at  guestmem.Addr
	old []byte
}
