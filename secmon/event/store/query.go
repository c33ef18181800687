package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"warder/secmon/event"
)

// Query says which events are wanted. What is zero says nothing.
type Query struct {
	From, To int64 // nanoseconds since 1970; From is included, To is not
	VMs      []string
	Kinds    []event.Kind
}

// Has says whether an event is one that is wanted.
func (q *Query) Has(e *event.Event) bool {
	return e.Time >= q.From && (q.To == 0 || e.Time < q.To) &&
		(len(q.VMs) == 0 || slices.Contains(q.VMs, e.VM)) &&
		(len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind))
}

// may says whether a segment can have events that are wanted.
func (q *Query) may(g *segment) bool {
	return g.Events > 0 && g.To >= q.From && (q.To == 0 || g.From < q.To) &&
		(len(q.VMs) == 0 || slices.ContainsFunc(q.VMs, func(vm string) bool { return slices.Contains(g.VMs, vm) })) &&
		(len(q.Kinds) == 0 || slices.ContainsFunc(q.Kinds, func(k event.Kind) bool { return slices.Contains(g.Kinds, k) }))
}

// errStop ends reading when the caller has enough.
var errStop = errors.New("enough")

// Query gives the events that are wanted, in the order in which they were
// appended, up to those of before the call. A line that cannot be read is an
// error in its place, and reading goes on behind it. Segments that are deleted
// meanwhile are left out.
func (s *Store) Query(q Query) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		s.mu.Lock()
		var err error
		if s.file == nil {
			err = os.ErrClosed
		} else if s.broken == nil {
			err = s.out.Flush()
		}
		var wanted []segment
		for _, g := range s.segments {
			if q.may(g) {
				wanted = append(wanted, *g)
			}
		}
		s.mu.Unlock()
		if err != nil {
			yield(event.Event{}, fmt.Errorf("event store %s: %w", s.dir, err))
			return
		}
		for _, g := range wanted {
			if err := g.read(&q, yield); errors.Is(err, errStop) {
				return
			} else if err != nil && !errors.Is(err, os.ErrNotExist) {
				if !yield(event.Event{}, err) {
					return
				}
			}
		}
	}
}

// read gives the events of a segment up to the size that it had.
func (g *segment) read(q *Query, yield func(event.Event, error) bool) error {
	f, err := os.Open(g.path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, read := 0, int64(0)
	_, err = lines(f, func(line []byte) error {
		n++
		if read += int64(len(line)) + 1; read > g.bytes {
			return errStop
		}
		var e event.Event
		if err := json.Unmarshal(line, &e); err != nil {
			if !yield(event.Event{}, fmt.Errorf("%s:%d: %w", g.path, n, err)) {
				return errStop
			}
			return nil
		}
		if q.Has(&e) && !yield(e, nil) {
			return errStop
		}
		return nil
	})
	if read > g.bytes && errors.Is(err, errStop) {
		return nil // not the caller's wish
	}
	return err
}

// Read gives the events of a store that another process may have open, without
// any change to it.
func Read(dir string, q Query) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
		if err == nil && len(names) == 0 {
			err = errors.New("there are no events")
		}
		if err != nil {
			yield(event.Event{}, fmt.Errorf("event store %s: %w", dir, err))
			return
		}
		slices.Sort(names)
		for _, name := range names {
			g := newSegment(name, 0)
			g.bytes = 1<<63 - 1
			if g.readSummary() == nil && !q.may(g) {
				continue
			}
			if err := g.read(&q, yield); errors.Is(err, errStop) {
				return
			} else if err != nil && !errors.Is(err, os.ErrNotExist) && !yield(event.Event{}, err) {
				return
			}
		}
	}
}
