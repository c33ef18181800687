package trap

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"warder/devices/guestmem"
	"warder/secmon/event"
	"warder/vmm/pagetable"
)

// halfCPU is a vCPU whose kernel has a half of the address space to itself.
type halfCPU struct {
	*fake
	now, later pagetable.Space // what it is if one is not sure, and else
	asked      []bool
	whole      func() (pagetable.Space, error)
	wholes     int
}

func (c *halfCPU) KernelSpace(sure bool) (pagetable.Space, error) {
	c.asked = append(c.asked, sure)
	if sure {
		c.now = c.later
	}
	return c.now, nil
}

func (c *halfCPU) WholeSpace() (pagetable.Space, error) {
	c.wholes++
	return c.whole()
}

// tablesAt are registers whose tables map page 1 of either half, 3 pages behind them.
func tablesAt(t *testing.T, mem *guestmem.Memory, user, kernel uint64) pagetable.ARM64 {
	t.Helper()
	const table, accessed = 0b11, 1 << 10
	for _, at := range []uint64{user, kernel} {
		for _, e := range []struct{ at, value uint64 }{
			{at, (at + 0x1000) | table},
			{at + 0x1000, (at + 0x2000) | table},
			{at + 0x2008, (at + 0x3000) | table | accessed},
			{at + 0x3000, at},
		} {
			if err := mem.StoreUint64(guestmem.Addr(e.at), e.value); err != nil {
				t.Fatal(err)
			}
		}
	}
	const tcr39 = 25 | 25<<16 | 0b10<<30 // 39 bits of 4K pages, both
	return pagetable.ARM64{SCTLR: 1, TTBR0: user, TTBR1: kernel, TCR: tcr39}
}

// TestHalfOfPrograms reads of both halves: that of programs is asked for once a hit, and
// not where nothing of it is read.
func TestHalfOfPrograms(t *testing.T) {
	const user, kernel, programPage, kernelPage = 0x1_0000, 0x2_0000, 0x1000, 0xffff_ff80_0000_1000
	mem, err := guestmem.New(guestmem.Region{Bytes: make([]byte, 1<<20)})
	if err != nil {
		t.Fatal(err)
	}
	regs := tablesAt(t, mem, user, kernel)
	c := &halfCPU{fake: &fake{}, whole: func() (pagetable.Space, error) { return regs.Space(), nil }}
	p := pages{TLB: pagetable.NewTLB(mem), mem: mem}
	reads := map[string]func(va uint64) uint64{
		"Page": func(va uint64) uint64 {
			b, err := p.Page(va)
			if err != nil || len(b) < 8 {
				t.Fatalf("%#x: %v", va, err)
			}
			return le.Uint64(b)
		},
		"Uint64": func(va uint64) uint64 { v, _ := p.Uint64(va); return v },
		"ReadAt": func(va uint64) uint64 {
			var b [8]byte
			if err := p.ReadAt(b[:], va); err != nil {
				t.Fatal(err)
			}
			return le.Uint64(b[:])
		},
		"Physical": func(va uint64) uint64 { a, _ := p.Physical(va); return uint64(a) - 0x3000 },
		"Of": func(va uint64) uint64 {
			if va == kernelPage {
				return kernel // it needs the other half to begin from
			}
			a, _ := p.Of(user).Physical(va)
			return uint64(a) - 0x3000
		},
	}
	for name, read := range reads {
		c.wholes = 0
		p.begin(c, regs.KernelSpace())
		if got := read(kernelPage); got != kernel || c.wholes != 0 {
			t.Errorf("%s of the kernel's: %#x, programs' half was asked for %d times", name, got, c.wholes)
		}
		for range 2 {
			if got := read(programPage); got != user || c.wholes != 1 {
				t.Errorf("%s of a program's: %#x, its half was asked for %d times", name, got, c.wholes)
			}
		}
	}
	p.begin(c, regs.Space())
	if v, _ := p.Uint64(programPage); v != user {
		t.Errorf("in a whole space: %#x", v)
	}
	c.whole = func() (pagetable.Space, error) { return pagetable.Space{}, unix.EIO }
	p.begin(c, regs.KernelSpace())
	if _, err := p.Page(programPage); !errors.Is(err, pagetable.ErrMode) {
		t.Errorf("when its half is not to be had: %v", err)
	}
	if v, _ := p.Uint64(kernelPage); v != kernel {
		t.Errorf("of the kernel's then: %#x", v)
	}
}

// TestKernelByOtherTables has a hit find nothing where the kernel was: it looks at
// whether that is still there, once more if not, and says so once.
func TestKernelByOtherTables(t *testing.T) {
	eachKernel(t, func(t *testing.T, f *fake) {
		f.trace(t)
		var events []event.Event
		var notices []string
		tr, err := Arm(t.Context(), f, Config{
			VM: "vm", Kernel: f.kernel, Calls: []string{"write"},
			Sink:   func(e event.Event) unix.Errno { events = append(events, e); return 0 },
			Notice: func(m string) { notices = append(notices, m) },
		})
		if err != nil {
			t.Fatal(err)
		}
		for at, s := range tr.h.now.Load().sites {
			if s.call != nil && s.call.Name == "write" {
				f.pc = at
			}
		}
		one, two := pagetable.ARM64{SCTLR: 1, TTBR1: 0x1000}.KernelSpace(), pagetable.ARM64{SCTLR: 1, TTBR1: 0x2000}.KernelSpace()
		c := &halfCPU{fake: f, now: one, later: one}
		for _, h := range []struct {
			later pagetable.Space
			asked []bool
			says  int
		}{
			{one, []bool{false, true}, 0},
			{two, []bool{false, true, false}, 1},
			{two, []bool{false, true}, 1},
			{one, []bool{false, true, false}, 1},
		} {
			c.later, c.asked = h.later, nil
			f.hook(c)
			if !slices.Equal(c.asked, h.asked) || len(notices) != h.says {
				t.Errorf("it asked %v, want %v, and has said %q", c.asked, h.asked, notices)
			}
		}
		if len(events) != 4 || len(notices) == 1 && !strings.Contains(notices[0], "other tables") {
			t.Errorf("%d events of four hits, it has said %q", len(events), notices)
		}
	})
}
