package guestmem

import (
	"fmt"
	"io"
)

// An attachment is memory of the guest's that is no RAM: a file that is mapped into
// its address space.
type attachment struct {
	base Addr
	size uint64
	file io.ReaderAt
}

// Attach has ReadAt read from file where the guest has it, size bytes from base.
// Through the file, since a mapping of it kills the process that reads what has been
// cut off meanwhile. It is not for devices: it is in no region, and Slice refuses
// it. Nothing may read yet.
func (m *Memory) Attach(base Addr, size uint64, file io.ReaderAt) error {
	if size == 0 || base+Addr(size-1) < base {
		return fmt.Errorf("guestmem: attachment %#x+%#x", base, size)
	}
	m.attached = append(m.attached, attachment{base, size, file})
	return nil
}

// Attached reports whether the guest has a file at a.
func (m *Memory) Attached(a Addr) bool {
	for _, f := range m.attached {
		if a >= f.base && uint64(a-f.base) < f.size {
			return true
		}
	}
	return false
}

// readAttached is ReadAt for what is no RAM.
func (m *Memory) readAttached(p []byte, a Addr) error {
	for _, f := range m.attached {
		off := uint64(a - f.base)
		if a < f.base || off > f.size || uint64(len(p)) > f.size-off {
			continue
		}
		n, err := f.file.ReadAt(p, int64(off))
		if err == io.EOF {
			clear(p[n:]) // as it is mapped, to whole pages
			err = nil
		}
		return err
	}
	return ErrRange
}
