package vmm

import (
	"errors"
	"os"
	"testing"
)

// TestPin pulses a line that is held, let go, and cut off.
func TestPin(t *testing.T) {
	pulses := 0
	p := &pin{pulse: func() error { pulses++; return nil }}
	for _, step := range []struct {
		name string
		do   func() error
		want int
	}{
		{"pulse", p.Pulse, 1},
		{"let go of what is not due", p.release, 1},
		{"hold and pulse twice", func() error { p.hold(); return errors.Join(p.Pulse(), p.Pulse()) }, 1},
		{"let go", p.release, 2},
		{"let go again", p.release, 2},
	} {
		if err := step.do(); err != nil || pulses != step.want {
			t.Errorf("%s: %d pulses, %v; want %d", step.name, pulses, err, step.want)
		}
	}
	p.hold()
	if err := errors.Join(p.Pulse(), p.cut()); err != nil {
		t.Error(err)
	}
	for name, do := range map[string]func() error{"let go": p.release, "pulse": p.Pulse} {
		if err := do(); !errors.Is(err, os.ErrClosed) || pulses != 2 {
			t.Errorf("%s after it was cut off: %d pulses, %v", name, pulses, err)
		}
	}
}
