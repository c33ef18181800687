// Package guestmem is a guest's RAM: the one place where a guest's address
// becomes a host pointer.
//
// Every access is checked against the memory's ranges, whole or not at all.
// The bytes are shared with the guest, which may change them at any time, also
// while they are being copied: copy once, then check and use the copy.
package guestmem

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Addr is a guest-physical address.
type Addr uint64

// ErrRange says that an access is not, or not wholly, inside guest RAM, or
// that an atomic access is not aligned.
var ErrRange = errors.New("guestmem: not guest RAM")

// A Range is where a piece of RAM is to be: Size bytes from Base.
type Range struct {
	Base Addr
	Size uint64
}

// A Region is a piece of RAM with its bytes.
type Region struct {
	Base  Addr
	Bytes []byte // whole words of 8 bytes, aligned to them

	blocks *blocks // nil for a region all of which is always there
}

// Memory is the RAM of one guest. Its methods may be called from any
// goroutine until Close.
type Memory struct {
	regions []Region // by base, without overlap
	fd      int
	keeping keeping
	unplugs atomic.Uint64

	attached []attachment
}

// Allocate makes memory with these ranges in one anonymous file, one after the
// other. Name is what the file is called in /proc. Pages take host memory when
// they are first touched.
func Allocate(name string, ranges ...Range) (*Memory, error) {
	pageSize := uint64(os.Getpagesize())
	var total uint64
	for _, r := range ranges {
		if r.Size == 0 || r.Size%pageSize != 0 || uint64(r.Base)%pageSize != 0 {
			return nil, fmt.Errorf("guestmem: range %#x+%#x is not whole pages", r.Base, r.Size)
		}
		if total += r.Size; total < r.Size || total > math.MaxInt64 {
			return nil, fmt.Errorf("guestmem: range %#x+%#x makes more memory than a file holds", r.Base, r.Size)
		}
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("guestmem: memfd: %w", err)
	}
	m := &Memory{fd: fd}
	if err := unix.Ftruncate(fd, int64(total)); err != nil {
		return nil, errors.Join(fmt.Errorf("guestmem: %d bytes of memory: %w", total, err), m.Close())
	}
	var off int64
	for _, r := range ranges {
		b, err := Map(fd, off, r.Size)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("guestmem: %w", err), m.Close())
		}
		// Guests' secrets do not belong into a core dump of the host's process.
		// Where the kernel can't, nothing else depends on it.
		_ = unix.Madvise(b, unix.MADV_DONTDUMP)
		m.regions = append(m.regions, Region{Base: r.Base, Bytes: b})
		off += int64(r.Size)
	}
	if err := m.sort(); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// New makes memory of bytes that the caller has mapped and keeps mapped.
func New(regions ...Region) (*Memory, error) {
	m := &Memory{regions: slices.Clone(regions), fd: -1}
	for _, r := range regions {
		if len(r.Bytes) == 0 || !aligned(r.Bytes, 8) || len(r.Bytes)%8 != 0 || r.Base%8 != 0 {
			return nil, fmt.Errorf("guestmem: region at %#x of %d bytes is not whole words", r.Base, len(r.Bytes))
		}
	}
	if err := m.sort(); err != nil {
		return nil, err
	}
	return m, nil
}

// sort orders the regions and refuses those that overlap or wrap.
func (m *Memory) sort() error {
	slices.SortFunc(m.regions, func(a, b Region) int { return cmp.Compare(a.Base, b.Base) })
	var end Addr
	for i, r := range m.regions {
		last := r.Base + Addr(len(r.Bytes)-1)
		if last < r.Base || i > 0 && r.Base <= end {
			return fmt.Errorf("guestmem: region at %#x overlaps another or wraps", r.Base)
		}
		end = last
	}
	return nil
}

// Regions are the pieces of RAM by address. The slice and what is in it must
// not be changed.
func (m *Memory) Regions() []Region { return m.regions }

// FD is the file that holds the regions in the order they were asked for, -1
// for memory made by New.
func (m *Memory) FD() int { return m.fd }

// Close unmaps the memory. Whoever used it must have stopped.
func (m *Memory) Close() error {
	if m.fd < 0 {
		return nil
	}
	var errs []error
	for _, r := range m.regions {
		errs = append(errs, Unmap(r.Bytes))
	}
	errs = append(errs, unix.Close(m.fd))
	m.regions, m.fd = nil, -1
	return errors.Join(errs...)
}

// Slice is the n bytes at a, which must be in one region: for handing to system
// calls and for copies. The guest may change the bytes at any time. The slice
// has no room to grow and must not be used after Close.
func (m *Memory) Slice(a Addr, n uint64) ([]byte, error) {
	for i := range m.regions {
		r := &m.regions[i]
		if a < r.Base {
			break
		}
		off := uint64(a - r.Base)
		if size := uint64(len(r.Bytes)); off <= size && n <= size-off {
			if r.blocks != nil && !r.blocks.has(off, n) {
				break
			}
			return r.Bytes[off : off+n : off+n], nil
		}
	}
	return nil, ErrRange
}

// Check reports by its error whether the n bytes at a are RAM of one region.
func (m *Memory) Check(a Addr, n uint64) error {
	_, err := m.Slice(a, n)
	return err
}

// ReadAt fills p from address a, whole or not at all.
func (m *Memory) ReadAt(p []byte, a Addr) error {
	b, err := m.Slice(a, uint64(len(p)))
	if err != nil && m.attached != nil {
		return m.readAttached(p, a)
	}
	if err != nil {
		return err
	}
	copy(p, b)
	return nil
}

// WriteAt writes p to address a, whole or not at all.
func (m *Memory) WriteAt(p []byte, a Addr) error {
	b, err := m.Slice(a, uint64(len(p)))
	if err != nil {
		return err
	}
	copy(b, p)
	return nil
}
