// Package pagetable translates a guest's virtual addresses by walking its page
// tables in guest memory.
//
// It is a pure function of register values and memory: it takes no lock, sets no
// accessed bit, and works for a machine of either architecture on either. The
// tables are the guest's and can say anything; a walk reads at most one entry a
// level.
//
// Protection bits are reported, not enforced: an inspector reads where the guest
// itself may not.
package pagetable

import (
	"errors"
	"fmt"

	"warder/devices/guestmem"
)

// Errors wrapped by a [FaultError].
var (
	// ErrNotPresent says that the tables map nothing at the address.
	ErrNotPresent = errors.New("not mapped")
	// ErrAddress says that the address is outside every range that the
	// translation registers describe: not canonical, or its walk disabled.
	ErrAddress = errors.New("not a virtual address here")
	// ErrTable says that a table is outside the guest's memory, or an entry
	// of a form that the architecture reserves.
	ErrTable = errors.New("bad page table")
	// ErrMode says that the registers ask for a form of translation that
	// this package does not know, such as 32-bit paging.
	ErrMode = errors.New("unknown translation mode")
)

// FaultError tells where a walk ended without a page.
type FaultError struct {
	VA    uint64
	Level int   // as the architecture counts: x86 5 to 1, arm64 -1 to 3
	Err   error // one of the above, wrapped or not
}

func (e *FaultError) Error() string {
	return fmt.Sprintf("virtual address %#x: level %d: %v", e.VA, e.Level, e.Err)
}

func (e *FaultError) Unwrap() error { return e.Err }

// Reader is what a walk needs of guest memory; *guestmem.Memory has it.
type Reader interface {
	// ReadAt fills p from address a, whole or not at all.
	ReadAt(p []byte, a guestmem.Addr) error
	// LoadUint64 reads a little-endian word at once, as the CPU would; a is a
	// multiple of 8.
	LoadUint64(a guestmem.Addr) (uint64, error)
}

// Memory is what [Space.Write] needs beyond that.
type Memory interface {
	Reader
	// WriteAt writes p to address a, whole or not at all.
	WriteAt(p []byte, a guestmem.Addr) error
}

// Mapping is what the tables say of one virtual address.
type Mapping struct {
	Addr     guestmem.Addr // of the very byte, not of its page
	PageSize uint64        // bytes
	Writable bool          // at the least privilege that may access the page
	User     bool          // accessible in ring 3 or at EL0
	// Executable holds for user mode if User, else for the kernel.
	Executable bool
}

// Space is an address space: an architecture's translation registers at one
// moment. Make one by [AMD64.Space] or [ARM64.Space]; it is a value, free to
// copy, and the zero value maps nothing.
type Space struct {
	// low is for addresses whose bit 55 is 0, which are programs', high for the
	// kernel's. On amd64 both are the same.
	low, high walker
}

// walker is an architecture's walk.
type walker interface {
	translate(mem Reader, va uint64) (Mapping, error)
	// from is the same walk with another first table.
	from(root guestmem.Addr) walker
}

// InKernel says whether an address is in the kernel's half of all addresses.
func InKernel(va uint64) bool { return bits(va, 55, 55) != 0 }

// half is the walk for an address, nil where none is known.
func (s Space) half(va uint64) walker {
	if InKernel(va) {
		return s.high
	}
	return s.low
}

// Whole says whether the space has both halves: see [ARM64.KernelSpace].
func (s Space) Whole() bool { return s.low != nil }

// Kernel returns the space in which the kernel's addresses are translated from
// the first table at root. On amd64 there is one table for all addresses.
func (s Space) Kernel(root guestmem.Addr) Space {
	s.high, s.low = rooted(s.high, s.low, root)
	return s
}

// KernelBits is how many bits of the kernel's addresses are translated, 0 where
// no walk is known.
func (s Space) KernelBits() uint {
	switch w := s.high.(type) {
	case amd64Walk:
		return uint(12 + 9*w.levels)
	case arm64Half:
		return w.size
	}
	return 0
}

// Granule is the size in bytes of the kernel's pages, 0 where no walk is known.
func (s Space) Granule() uint64 {
	switch w := s.high.(type) {
	case amd64Walk:
		return 4096
	case arm64Half:
		return 1 << w.granule
	}
	return 0
}

// User returns the space in which a process's addresses are translated from the
// first table at root. On amd64 that is the table of the kernel's as well.
func (s Space) User(root guestmem.Addr) Space {
	s.low, s.high = rooted(s.low, s.high, root)
	return s
}

// rooted gives a half another first table, and the other half with it where they are one.
func rooted(half, other walker, root guestmem.Addr) (newHalf, newOther walker) {
	switch {
	case half == nil:
		return nil, other
	case half == other:
		half = half.from(root)
		return half, half
	}
	return half.from(root), other
}

// Translate returns the mapping of va. Its errors are of type *[FaultError].
func (s Space) Translate(mem Reader, va uint64) (Mapping, error) {
	w := s.half(va)
	if w == nil {
		return Mapping{}, &FaultError{VA: va, Err: ErrMode}
	}
	return w.translate(mem, va)
}

// Read fills p from virtual address va on. After an error p's content is
// undefined.
func (s Space) Read(mem Reader, va uint64, p []byte) error {
	// Not by pages: a function would be allocated for each read.
	for len(p) > 0 {
		m, err := s.Translate(mem, va)
		if err != nil {
			return err
		}
		n := min(m.PageSize-va%m.PageSize, uint64(len(p)))
		if err := mem.ReadAt(p[:n], m.Addr); err != nil {
			return fmt.Errorf("virtual address %#x: %w", va, err)
		}
		p, va = p[n:], va+n
		if va < n && len(p) > 0 {
			return &FaultError{VA: va, Err: ErrAddress}
		}
	}
	return nil
}

// Write copies p to virtual address va on, whatever the protection. If any of
// its pages is not mapped it writes none.
func (s Space) Write(mem Memory, va uint64, p []byte) error {
	if err := s.pages(mem, va, p, func([]byte, guestmem.Addr) error { return nil }); err != nil {
		return err
	}
	return s.pages(mem, va, p, mem.WriteAt)
}

// pages calls do for each part of p that lies in one page.
func (s Space) pages(mem Reader, va uint64, p []byte, do func([]byte, guestmem.Addr) error) error {
	for len(p) > 0 {
		m, err := s.Translate(mem, va)
		if err != nil {
			return err
		}
		left := m.PageSize - va%m.PageSize
		n := min(left, uint64(len(p)))
		if err := do(p[:n], m.Addr); err != nil {
			return fmt.Errorf("virtual address %#x: %w", va, err)
		}
		p, va = p[n:], va+n
		if va < n && len(p) > 0 {
			return &FaultError{VA: va, Err: ErrAddress}
		}
	}
	return nil
}

// everywhere is the space of one walk for all addresses.
func everywhere(w walker) Space { return Space{w, w} }

// identity maps every address to itself: translation is off.
type identity struct{}

func (identity) translate(_ Reader, va uint64) (Mapping, error) {
	return Mapping{Addr: guestmem.Addr(va), PageSize: 4096, Writable: true, User: true, Executable: true}, nil
}

func (w identity) from(guestmem.Addr) walker { return w }

// unknown is a mode that this package cannot walk.
type unknown struct{ mode string }

func (u unknown) translate(_ Reader, va uint64) (Mapping, error) {
	return Mapping{}, &FaultError{VA: va, Err: fmt.Errorf("%w: %s", ErrMode, u.mode)}
}

func (u unknown) from(guestmem.Addr) walker { return u }

// bits returns bits hi to lo of v, shifted down.
func bits(v uint64, hi, lo uint) uint64 { return v >> lo & (1<<(hi-lo+1) - 1) }

// mask returns bits hi to lo of v, where they are.
func mask(v uint64, hi, lo uint) uint64 { return bits(v, hi, lo) << lo }
