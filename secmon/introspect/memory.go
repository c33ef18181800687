package introspect

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
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
//
// What it reads goes through buffers of its own: those of a caller would have to be
// allocated for each read.
type reader struct {
	*Guest
	v    View
	left int
	word [8]byte
	text [maxPath]byte // of a string or name
	path [maxPath]byte // filled from its end
	// met are words and strings that were answers, of which the next one is likely to
	// be one again; nil to keep none.
	met map[string]string
	// mount is one whose file system has been asked for, and what it was.
	mount      uint64
	fs, source string
	// pages is v, nil where its memory cannot be looked at in place.
	pages Pages
}

// Pages is a View of memory that can be looked at in place, which is cheaper.
type Pages interface {
	View
	// Page is what lies from va on to the end of its page. The guest may change it at
	// any time; it is good until the next question.
	Page(va uint64) ([]byte, error)
	// Uint64 is the word at va. It is false for one that is not there, or not in one
	// page.
	Uint64(va uint64) (uint64, bool)
}

// Bounds of what reader.met keeps.
const (
	maxMet       = 1024
	maxMetLength = 256
)

func (g *Guest) reader(v View) *reader { return &reader{Guest: g, v: v, left: maxReads} }

func (r *reader) read(p []byte, va uint64) error {
	if r.left--; r.left < 0 {
		return fmt.Errorf("%w: more than %d reads", ErrWalk, maxReads)
	}
	if r.pages != nil {
		if b, err := r.pages.Page(va); err == nil && len(b) >= len(p) {
			copy(p, b)
			return nil
		}
	}
	if err := r.v.ReadAt(p, va); err != nil {
		return fmt.Errorf("%w: %#x: %w", ErrNotResident, va, err)
	}
	return nil
}

// uint reads a field of up to 8 bytes of the structure at base.
func (r *reader) uint(base uint64, f field) (uint64, error) {
	if r.pages != nil && r.left > 0 {
		if v, ok := r.pages.Uint64(base + f.off); ok {
			r.left--
			return v & (1<<(8*f.size) - 1), nil // all of it from 8 bytes on
		}
	}
	r.word = [8]byte{}
	if err := r.read(r.word[:min(f.size, 8)], base+f.off); err != nil {
		return 0, err
	}
	return le.Uint64(r.word[:]), nil
}

// pointer reads a pointer field, which may be nil.
func (r *reader) pointer(base uint64, f field) (uint64, error) {
	if base == 0 {
		return 0, errNil
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
			return 0, errNil
		}
		base = p
	}
	return base, nil
}

var errNil = fmt.Errorf("%w: nil pointer", ErrWalk)

// A chunk never crosses a page, so that a string which ends before one that
// is not resident is read whole.
const chunk = 64

// cstring reads a NUL-terminated string of less than limit bytes.
func (r *reader) cstring(va uint64, limit int) (string, error) {
	room := r.text[:]
	if limit > len(room) {
		room = make([]byte, limit)
	}
	for n := 0; n < limit; {
		p := room[n : n+int(min(chunk-va%chunk, uint64(limit-n)))]
		if err := r.read(p, va); err != nil {
			return "", err
		}
		if end := bytes.IndexByte(p, 0); end >= 0 {
			return r.interned(room[:n+end]), nil
		}
		n += len(p)
		va += uint64(len(p))
	}
	return "", fmt.Errorf("%w: a string of %d bytes or more", ErrWalk, limit)
}

// words are strings that most questions meet.
var words = func() map[string]string {
	all := map[string]string{}
	for _, w := range []string{
		"", "/", "/init", "/dev/null", "/proc", "/sys", "/tmp", "none", "tmpfs", "ramfs", "rootfs", "devtmpfs", "proc", "sysfs", "cgroup2",
		"virtiofs", "ext4", "erofs", "overlay", "xfs", "btrfs", "vfat", "sockfs", "pipefs", "anon_inodefs", "devpts", "mqueue", "tracefs",
	} {
		all[w] = w
	}
	return all
}()

// interned is the string of these bytes, without a copy of one that is in words
// or was met before.
func (r *reader) interned(p []byte) string {
	met := r.met
	if met == nil {
		met = words
	}
	s, ok := met[string(p)]
	if ok {
		return s
	}
	if s = string(p); r.met == nil || len(p) > maxMetLength {
		return s
	}
	if len(r.met) >= maxMet {
		r.met = maps.Clone(words)
	}
	r.met[s] = s
	return s
}
