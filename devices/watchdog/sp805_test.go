package watchdog

import (
	"encoding/binary"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func get(w *SP805, off uint64) uint32 {
	var p [4]byte
	w.Read(off, p[:])
	return binary.LittleEndian.Uint32(p[:])
}

func put(w *SP805, off uint64, v uint32) {
	w.Write(off, binary.LittleEndian.AppendUint32(nil, v))
}

// bubble runs f in a bubble of time with a watchdog, whose expiries it counts.
func bubble(t *testing.T, f func(t *testing.T, w *SP805, expiries *atomic.Int32)) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		w := New(func() { n.Add(1) })
		defer w.Close()
		f(t, w, &n)
	})
}

// pass lets time pass, and what is due happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestExpires starts the watchdog as Linux' driver does for a timeout of 10 s.
func TestExpires(t *testing.T) {
	bubble(t, func(t *testing.T, w *SP805, expiries *atomic.Int32) {
		start := func() {
			put(w, Lock, unlock)
			put(w, Load, 10*Hz/2-1)
			put(w, IntClr, 1)
			put(w, Control, Enable|ControlReset)
			put(w, Lock, 1)
		}
		start()
		for range 5 { // set back in time
			pass(9 * time.Second)
			start()
		}
		if expiries.Load() != 0 {
			t.Fatalf("%d expiries of a watchdog that was set back", expiries.Load())
		}
		pass(5 * time.Second)
		if get(w, RIS) != 1 || get(w, MIS) != 1 {
			t.Error("nothing tells that half of the time has passed")
		}
		if got := get(w, Value); got < 4900 || got > 5000 {
			t.Errorf("the counter is at %d", got)
		}
		pass(5 * time.Second)
		if expiries.Load() != 1 {
			t.Fatalf("%d expiries after 10 s, want 1", expiries.Load())
		}
		pass(time.Hour)
		if expiries.Load() != 1 {
			t.Errorf("%d expiries, though nobody set it back", expiries.Load())
		}
		start()
		pass(11 * time.Second)
		if expiries.Load() != 2 {
			t.Errorf("%d expiries after it was set back and forgotten again, want 2", expiries.Load())
		}
	})
}

func TestStops(t *testing.T) {
	bubble(t, func(t *testing.T, w *SP805, expiries *atomic.Int32) {
		pass(2000 * time.Hour)
		put(w, Load, 100)
		pass(time.Second)
		put(w, Control, Enable) // without a reset
		pass(time.Second)
		put(w, Control, Enable|ControlReset)
		pass(time.Second)
		if expiries.Load() != 0 {
			t.Errorf("%d expiries", expiries.Load())
		}
		put(w, IntClr, 0)
		pass(150 * time.Millisecond)
		put(w, Control, 0)
		pass(time.Second)
		if expiries.Load() != 0 {
			t.Errorf("%d expiries after it was stopped", expiries.Load())
		}
	})
}

func TestLocked(t *testing.T) {
	bubble(t, func(t *testing.T, w *SP805, expiries *atomic.Int32) {
		put(w, Load, 100)
		put(w, Control, Enable|ControlReset)
		put(w, Lock, 1)
		put(w, Control, 0)
		put(w, Load, 5000)
		put(w, IntClr, 1)
		if get(w, Load) != 100 || get(w, Control) != 3 || get(w, Lock) != 1 {
			t.Error("a locked watchdog took a write")
		}
		pass(300 * time.Millisecond)
		if expiries.Load() != 1 {
			t.Errorf("%d expiries", expiries.Load())
		}
		put(w, Lock, unlock)
		if get(w, Lock) != 0 {
			t.Error("still locked")
		}
	})
}

// TestFrozen stops the guest for longer than it has.
func TestFrozen(t *testing.T) {
	bubble(t, func(t *testing.T, w *SP805, expiries *atomic.Int32) {
		put(w, Load, 4*Hz)
		put(w, Control, Enable|ControlReset)
		pass(3 * time.Second)
		w.Freeze()
		w.Freeze()
		put(w, Load, 4*Hz) // a write that was under way
		pass(time.Hour)
		w.Thaw()
		w.Thaw()
		pass(7 * time.Second)
		if expiries.Load() != 0 {
			t.Error("time counted while the guest stood still")
		}
		pass(2 * time.Second)
		if expiries.Load() != 1 {
			t.Errorf("%d expiries", expiries.Load())
		}
		w.Freeze()
		w.Thaw()
		pass(time.Hour)
		if expiries.Load() != 1 {
			t.Errorf("%d expiries: an expired watchdog counts again", expiries.Load())
		}
	})
}

func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		done := false
		w := New(func() { time.Sleep(time.Second); done = true })
		put(w, Load, 1)
		put(w, Control, Enable|ControlReset)
		pass(10 * time.Millisecond)
		w.Close()
		if !done {
			t.Error("Close did not wait for what the expiry does")
		}
		put(w, IntClr, 1)
		if w.timer != nil {
			t.Error("a closed watchdog counts")
		}
	})
}

func TestIdentity(t *testing.T) {
	w := New(func() {})
	var got uint32
	for i := range uint64(4) {
		got |= get(w, 0xfe0+4*i) << (8 * i)
	}
	if got != 0x00141805 {
		t.Errorf("peripheral %#x", got)
	}
	var cell uint32
	for i := range uint64(4) {
		cell |= get(w, 0xff0+4*i) << (8 * i)
	}
	if cell != 0xb105f00d {
		t.Errorf("cell %#x", cell)
	}
}

func FuzzDevice(f *testing.F) {
	f.Add([]byte{0, 4, 10, 0, 0, 0, 8, 4, 3, 0, 0, 0, 12, 4, 1, 0, 0, 0})
	f.Add([]byte{0, 4, 0, 0, 0, 0, 8, 4, 3, 0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff, 200, 8, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Fuzz(func(t *testing.T, program []byte) {
		w := New(func() {})
		for len(program) >= 2 {
			off, n := uint64(program[0])*4, min(int(program[1])%9, len(program)-2)
			if program[1]&0x80 != 0 {
				off = Lock
			}
			w.Write(off, program[2:2+n])
			w.Read(off, make([]byte, n))
			program = program[2+n:]
			if w.timer != nil && w.control&Enable == 0 {
				t.Fatal("it counts though it is not enabled")
			}
		}
		w.Close()
		if w.timer != nil {
			t.Fatal("a timer is left")
		}
	})
}
