package vmm

import "testing"

// The values are those of the Arm ARM, D19.3.11.
func TestWatchControl(t *testing.T) {
	for _, c := range []struct {
		w    Watchpoint
		want uint64
	}{
		{Watchpoint{0x1000, 8, Write}, 0x1ff7},
		{Watchpoint{0x1004, 4, Read}, 0x1e0f},
		{Watchpoint{0x1002, 1, ReadWrite}, 0x9f},
	} {
		if got := watchControl(c.w); got != c.want {
			t.Errorf("%+v: %#x, want %#x", c.w, got, c.want)
		}
	}
}

// TestMaskOfAStep says what becomes of the interrupt mask by each instruction that
// has to do with it.
func TestMaskOfAStep(t *testing.T) {
	const from, vbar, elsewhere = 0x1000, 0x80000, 0x7777
	for name, c := range map[string]struct {
		insn    uint32
		pc, elr uint64
		want    maskPlace
	}{
		"nop":                       {0xd503201f, from + 4, elsewhere, maskInPState},
		"not done":                  {0xd503201f, from, elsewhere, maskInPState},
		"branch":                    {0x14000010, from + 64, elsewhere, maskInPState},
		"svc":                       {0xd4000001, vbar + 0x400, from + 4, maskSaved},
		"fault":                     {0xf9400000, vbar + 0x200, from, maskSaved},
		"branch to a vector":        {0xd61f0000, vbar + 0x200, elsewhere, maskInPState},
		"eret":                      {0xd69f03e0, elsewhere, elsewhere, maskGone},
		"eretab":                    {0xd69f0fff, elsewhere, elsewhere, maskGone},
		"msr daif, x5":              {0xd51b4225, from + 4, elsewhere, maskGone},
		"msr daifset, #2":           {0xd50342df, from + 4, elsewhere, maskGone},
		"msr daifclr, #15":          {0xd5034fff, from + 4, elsewhere, maskGone},
		"msr daifclr, #4":           {0xd50344ff, from + 4, elsewhere, maskInPState},
		"mrs x3, daif":              {0xd53b4223, from + 4, elsewhere, maskRead},
		"mrs xzr, daif":             {0xd53b423f, from + 4, elsewhere, maskRead},
		"a branch to itself, taken": {0x14000000, from, elsewhere, maskInPState},
	} {
		if got := (stepping{from: from, insn: c.insn}).where(c.pc, vbar, c.elr); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
