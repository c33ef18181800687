// Package store keeps events on disk.
//
// A store is a directory of segments: files of JSON lines, an event each, as
// package event writes them, so that any tool reads them. Events are appended to
// the last segment; the oldest segments are deleted when all together are too
// large or too old. What [Store.Sync] has acknowledged is there after a crash at
// any moment; a line that was being written is cut off when the store is opened
// again.
package store

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
)

// Limits bound a store. Zero stands for the default.
type Limits struct {
	// Segment is how large a segment gets, in bytes. Default: 16 MiB.
	Segment int64
	// Total is how large all segments may be together. Default: 1 GiB. At least
	// two segments are kept.
	Total int64
	// Age is how old the newest event of a segment may be. Default: for ever.
	Age time.Duration
}

func (l Limits) withDefaults() Limits {
	if l.Segment <= 0 {
		l.Segment = 16 << 20
	}
	if l.Total <= 0 {
		l.Total = 1 << 30
	}
	l.Total = max(l.Total, 2*l.Segment)
	return l
}

// Store is an open store. It is safe for concurrent use.
type Store struct {
	dir    string
	limits Limits
	lock   *os.File

	mu       sync.Mutex
	segments []*segment // the oldest first; the last is written to
	file     *os.File
	out      *bufio.Writer
	broken   error // of a write that may have left half a line
	stats    Stats
}

// Stats count what a store did since it was opened.
type Stats struct {
	Appended uint64
	Cut      int64  // bytes of an unfinished line that opening cut off
	Deleted  uint64 // events deleted for their size or age
	Bytes    int64  // of all segments
}

// Open opens the store in a directory, which it makes where there is none. A
// store that another process has open is refused.
func Open(dir string, limits Limits) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("event store: %w", err)
	}
	s := &Store{dir: dir, limits: limits.withDefaults()}
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("event store %s: %w", dir, err), s.closeFiles())
	}
	return s, nil
}

func (s *Store) open() (err error) {
	if s.lock, err = os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.New("another process has it open")
	}
	names, err := filepath.Glob(filepath.Join(s.dir, "*"+segmentSuffix))
	if err != nil {
		return err
	}
	slices.Sort(names)
	for i, name := range names {
		n, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), segmentSuffix), 10, 64)
		if err != nil {
			continue // not ours
		}
		g, cut, err := openSegment(name, n, i == len(names)-1)
		if err != nil {
			return err
		}
		s.stats.Cut += cut
		s.stats.Bytes += g.bytes
		s.segments = append(s.segments, g)
	}
	if len(s.segments) == 0 {
		return s.begin(1)
	}
	last := s.segments[len(s.segments)-1]
	s.file, err = os.OpenFile(last.path, os.O_WRONLY|os.O_APPEND, 0o600)
	s.out = bufio.NewWriterSize(s.file, 64<<10)
	return err
}

// begin starts a segment, which is then in the directory for good.
func (s *Store) begin(number uint64) error {
	path := filepath.Join(s.dir, fmt.Sprintf("%020d%s", number, segmentSuffix))
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	s.file, s.out = f, bufio.NewWriterSize(f, 64<<10)
	s.segments = append(s.segments, newSegment(path, number))
	return syncDir(s.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Append adds an event. It is safe on disk when Sync has returned. After an
// error nothing more is appended until Sync or the next Append has mended what
// was half written.
func (s *Store) Append(e *event.Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("event store: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.append(e, append(line, '\n')); err != nil {
		return fmt.Errorf("event store %s: %w", s.dir, err)
	}
	return nil
}

func (s *Store) append(e *event.Event, line []byte) error {
	if s.file == nil {
		return os.ErrClosed
	}
	if err := s.mend(); err != nil {
		return err
	}
	last := s.segments[len(s.segments)-1]
	if last.bytes > 0 && last.bytes+int64(len(line)) > s.limits.Segment {
		if err := s.seal(last); err != nil {
			return err
		}
		if err := s.begin(last.number + 1); err != nil {
			return err
		}
		last = s.segments[len(s.segments)-1]
	}
	if _, err := s.out.Write(line); err != nil {
		s.broken = err
		return err
	}
	last.note(e, int64(len(line)))
	s.stats.Appended++
	s.stats.Bytes += int64(len(line))
	return s.expire(e.Time)
}

// mend cuts off what a failed write left, which is not known to be whole: back
// to the last line that is.
func (s *Store) mend() error {
	if s.broken == nil {
		return nil
	}
	last := s.segments[len(s.segments)-1]
	g, _, err := openSegment(last.path, last.number, true)
	if err != nil {
		return err
	}
	s.stats.Bytes += g.bytes - last.bytes
	s.segments[len(s.segments)-1] = g
	s.out.Reset(s.file)
	s.broken = nil
	return nil
}

// seal finishes a segment: all of it is on disk, and what is in it, beside it.
func (s *Store) seal(g *segment) error {
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.file.Close(); err != nil {
		return err
	}
	return g.writeSummary()
}

func (s *Store) flush() error {
	if err := s.out.Flush(); err != nil {
		s.broken = err
		return err
	}
	if err := s.file.Sync(); err != nil {
		s.broken = err
		return err
	}
	return nil
}

// Sync has all appended events on disk when it returns without an error.
func (s *Store) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return os.ErrClosed
	}
	if s.broken != nil {
		return errors.Join(fmt.Errorf("event store %s: events were lost: %w", s.dir, s.broken), s.mend())
	}
	if err := s.flush(); err != nil {
		return fmt.Errorf("event store %s: %w", s.dir, err)
	}
	return nil
}

// expire deletes the oldest segments that are too many or too old.
func (s *Store) expire(now int64) error {
	for len(s.segments) > 1 {
		g := s.segments[0]
		old := s.limits.Age > 0 && g.To < now-int64(s.limits.Age)
		if s.stats.Bytes <= s.limits.Total && !old {
			break
		}
		if err := g.delete(); err != nil {
			return err
		}
		s.stats.Bytes -= g.bytes
		s.stats.Deleted += uint64(g.Events)
		s.segments = s.segments[1:]
	}
	return nil
}

// Stats gives the counts so far.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Close closes the store, with all events on disk.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.flush()
	return errors.Join(err, s.closeFiles())
}

func (s *Store) closeFiles() error {
	var errs []error
	for _, f := range []*os.File{s.file, s.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	s.file, s.lock = nil, nil
	return errors.Join(errs...)
}

// lines reads the lines of a segment that end.
func lines(r io.Reader, line func([]byte) error) (whole int64, err error) {
	in := bufio.NewReaderSize(r, 256<<10)
	var long []byte
	for {
		part, err := in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, part...)
			continue
		}
		if err != nil { // the last line does not end, or there is none
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return whole, err
		}
		if long != nil {
			part = append(long, part...)
			long = nil
		}
		whole += int64(len(part))
		if err := line(bytes.TrimSuffix(part, []byte{'\n'})); err != nil {
			return whole, err
		}
	}
}
