// Package watchdog is a timer that tells the host when its guest did not set it
// back in time.
//
// The device is Arm's SP805, which Linux drives on both architectures: on arm64
// by its own driver, found through the device tree; on x86 as a hardware watchdog
// that an ACPI table describes register by register (WDAT).
//
//	stopped ──INTEN──▶ counting ──0──▶ counting again, RIS set ──0, RESEN──▶ expired
//	                      ▲                      │                              │
//	                      └─────── a write of INTCLR or LOAD ◀──────────────────┘
//
// Source: ARM Watchdog Module (SP805), DDI 0270B.
package watchdog

import (
	"encoding/binary"
	"sync"
	"time"
)

const (
	// Size is the length in bytes of the registers.
	Size = 0x1000
	// Hz is how often the counter counts in a second.
	Hz = 1000
)

// Registers by offset, table 3-1.
const (
	Load    = 0x000 // what the counter starts from
	Value   = 0x004
	Control = 0x008
	IntClr  = 0x00c // any write sets the counter back
	RIS     = 0x010 // it has reached zero once
	MIS     = 0x014
	Lock    = 0xc00
	id      = 0xfe0

	// Enable has the counter count, ControlReset act when it ends.
	Enable       = 1 << 0 // INTEN
	ControlReset = 1 << 1 // RESEN

	unlock = 0x1acce551
)

// ids are PeriphID0 to PeriphID3, then PCellID0 to PCellID3: part 0x805 by Arm,
// revision 1.
var ids = [8]byte{0x05, 0x18, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1}

// SP805 is a watchdog. It is a bus.Device of Size bytes, safe for concurrent use.
// Its interrupt is wired to nothing: no driver waits for it.
type SP805 struct {
	expired func()

	mu      sync.Mutex
	load    uint32
	control uint32
	locked  bool
	ris     bool
	frozen  bool
	closed  bool
	timer   *time.Timer // nil while the counter stands still
	zero    time.Time   // when it reaches zero
	left    time.Duration
	calls   sync.WaitGroup // of expired
}

// New returns a watchdog that is not counting. When it has run out it calls
// expired, on a goroutine of its own, and then stands still until the guest sets
// it back.
func New(expired func()) *SP805 {
	return &SP805{expired: expired, load: 1<<32 - 1}
}

// Read implements bus.Device. The registers are 32 bits wide and little-endian:
// an access reads within one register, and 0 past it.
func (w *SP805) Read(off uint64, p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var word [4]byte
	binary.LittleEndian.PutUint32(word[:], w.register(off&^3))
	clear(p)
	copy(p, word[off&3:])
}

func (w *SP805) register(off uint64) uint32 {
	switch off {
	case Load:
		return w.load
	case Value:
		left := w.left
		if w.timer != nil {
			left = max(time.Until(w.zero), 0)
		}
		return uint32(left * Hz / time.Second)
	case Control:
		return w.control
	case RIS:
		return bit(w.ris)
	case MIS:
		return bit(w.ris) & w.control
	case Lock:
		return bit(w.locked)
	}
	if off >= id && off < Size {
		return uint32(ids[(off-id)/4])
	}
	return 0
}

func bit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// Write implements bus.Device. Only whole registers can be written.
func (w *SP805) Write(off uint64, p []byte) {
	if len(p) != 4 {
		return
	}
	v := binary.LittleEndian.Uint32(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	if off == Lock {
		w.locked = v != unlock
	}
	if w.locked {
		return
	}
	switch off {
	case Load:
		w.load = v
		w.count(w.period())
	case IntClr:
		w.ris = false
		w.count(w.period())
	case Control:
		was := w.control
		w.control = v & (Enable | ControlReset)
		switch {
		case w.control&Enable == 0:
			w.stop()
		case was&Enable == 0:
			w.count(w.period())
		}
	}
}

// period is how long the counter takes from LOAD to zero.
func (w *SP805) period() time.Duration {
	return max(time.Duration(w.load), 1) * time.Second / Hz
}

// count has the counter reach zero after d, once it may count. The caller holds
// mu.
func (w *SP805) count(d time.Duration) {
	w.stop()
	w.left = d
	if w.control&Enable == 0 || w.frozen || w.closed {
		return
	}
	w.zero = time.Now().Add(d)
	var timer *time.Timer
	timer = time.AfterFunc(d, func() { w.reached(&timer) })
	w.timer = timer
}

// stop has the counter stand still where it is. The caller holds mu.
func (w *SP805) stop() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
		w.left = max(time.Until(w.zero), 0)
	}
}

// reached is the counter at zero, unless its timer has been put off meanwhile. The
// timer is read with mu held, under which it was set.
func (w *SP805) reached(timer **time.Timer) {
	w.mu.Lock()
	if w.timer != *timer {
		w.mu.Unlock()
		return
	}
	w.timer, w.left = nil, 0
	if !w.ris {
		w.ris = true
		w.count(w.period())
		w.mu.Unlock()
		return
	}
	act := w.control&ControlReset != 0
	if act {
		w.calls.Add(1)
	}
	w.mu.Unlock()
	if act {
		defer w.calls.Done()
		w.expired()
	}
}

// Freeze has the counter stand still until Thaw: while the guest does not run, it
// can't set it back.
func (w *SP805) Freeze() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stop()
	w.frozen = true
}

// Thaw has the counter go on from where it was.
func (w *SP805) Thaw() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.frozen {
		w.frozen = false
		if w.left > 0 {
			w.count(w.left)
		}
	}
}

// Close stops the watchdog for good, and waits for expired to return.
func (w *SP805) Close() error {
	w.mu.Lock()
	w.stop()
	w.closed = true
	w.mu.Unlock()
	w.calls.Wait()
	return nil
}
