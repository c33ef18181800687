package introspect

import (
	"bytes"
	"errors"
	"fmt"
)

var (
	// ErrNotResident is the error for guest memory that is not mapped: paged
	// out, not touched yet, or a wild pointer.
	ErrNotResident = errors.New("not resident in guest memory")
	// ErrWalk is the error for guest structures that do not end where they
	// should: damaged, changed meanwhile, or built to hold us up.
	ErrWalk = errors.New("guest structures do not make sense")
)

// maxReads bounds how often one question reads guest memory. Resolving a path
// of forty components over a dozen mounts takes about a thousand.
const maxReads = 16384

// reader reads guest memory for one question about it, and no more than
// maxReads times.
type reader struct {
	*Guest
	v    View
	left int
}

func (g *Guest) reader(v View) *reader { return &reader{Guest: g, v: v, left: maxReads} }

func (r *reader) read(p []byte, va uint64) error {
	if r.left--; r.left < 0 {
		return fmt.Errorf("%w: more than %d reads", ErrWalk, maxReads)
	}
	if err := r.v.ReadAt(p, va); err != nil {
		return fmt.Errorf("%w: %#x: %w", ErrNotResident, va, err)
	}
	return nil
}

// uint reads a field of up to 8 bytes of the structure at base.
func (r *reader) uint(base uint64, f field) (uint64, error) {
	var p [8]byte
	if err := r.read(p[:min(f.size, 8)], base+f.off); err != nil {
		return 0, err
	}
	return le.Uint64(p[:]), nil
}

// pointer reads a pointer field, which may be nil.
func (r *reader) pointer(base uint64, f field) (uint64, error) {
	if base == 0 {
		return 0, fmt.Errorf("%w: nil pointer", ErrWalk)
	}
	return r.uint(base, field{f.off, 8})
}

// follow reads a chain of pointer fields, none of which may be nil.
func (r *reader) follow(base uint64, fields ...field) (uint64, error) {
	for _, f := range fields {
		p, err := r.pointer(base, f)
		if err != nil {
			return 0, err
		}
		if p == 0 {
			return 0, fmt.Errorf("%w: nil pointer", ErrWalk)
		}
		base = p
	}
	return base, nil
}

// A chunk never crosses a page, so that a string which ends before one that
// is not resident is read whole.
const chunk = 256

// cstring reads a NUL-terminated string of less than limit bytes.
func (r *reader) cstring(va uint64, limit int) (string, error) {
	var out []byte
	var buf [chunk]byte
	for len(out) < limit {
		n := chunk - va%chunk
		p := buf[:min(n, uint64(limit-len(out)))]
		if err := r.read(p, va); err != nil {
			return "", err
		}
		if end := bytes.IndexByte(p, 0); end >= 0 {
			return string(append(out, p[:end]...)), nil
		}
		out = append(out, p...)
		va += uint64(len(p))
	}
	return "", fmt.Errorf("%w: a string of %d bytes or more", ErrWalk, limit)
}
