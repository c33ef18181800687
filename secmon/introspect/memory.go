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
	// met are strings that were answers, of which the next one is likely to be
	// one again; nil to keep none.
	met map[string]string
	// lines are what was read since the question began, nil to read everything when
	// it is asked for.
	lines *lines
}

// lines are pieces of memory that were read for one question, of which the members of a
// structure are then taken. None crosses a page.
type lines struct {
	question uint64
	line     [lineCount]struct {
		at       uint64
		question uint64 // for which it was read
		data     [lineSize]byte
	}
}

const (
	lineSize  = 256
	lineCount = 32
)

// read fills p, which must lie in one line, from va on.
func (l *lines) read(v View, p []byte, va uint64) error {
	at := va &^ (lineSize - 1)
	e := &l.line[at/lineSize%lineCount]
	if e.at != at || e.question != l.question {
		e.question = 0
		if err := v.ReadAt(e.data[:], at); err != nil {
			return err
		}
		e.at, e.question = at, l.question
	}
	copy(p, e.data[va-at:])
	return nil
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
	err := error(nil)
	if r.lines != nil && va%lineSize+uint64(len(p)) <= lineSize {
		err = r.lines.read(r.v, p, va)
	} else {
		err = r.v.ReadAt(p, va)
	}
	if err != nil {
		return fmt.Errorf("%w: %#x: %w", ErrNotResident, va, err)
	}
	return nil
}

// uint reads a field of up to 8 bytes of the structure at base.
func (r *reader) uint(base uint64, f field) (uint64, error) {
	r.word = [8]byte{}
	if err := r.read(r.word[:min(f.size, 8)], base+f.off); err != nil {
		return 0, err
	}
	return le.Uint64(r.word[:]), nil
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
	if w, ok := words[string(p)]; ok {
		return w
	}
	if r.met == nil || len(p) > maxMetLength {
		return string(p)
	}
	s, ok := r.met[string(p)]
	if !ok {
		if s = string(p); len(r.met) >= maxMet {
			clear(r.met)
		}
		r.met[s] = s
	}
	return s
}
