package store

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"

	"warder/secmon/event"
)

const (
	segmentSuffix = ".jsonl"
	summarySuffix = ".json" // of what is in a finished segment, beside it
)

// segment is one file of events.
type segment struct {
	path   string
	number uint64
	bytes  int64
	summary
}

// summary is what a segment holds.
type summary struct {
	Events   int      `json:"events"`
	From, To int64    // times of the earliest and the latest event
	VMs      []string `json:"vms"`
	Kinds    []event.Kind
	Bytes    int64 `json:"bytes"`
}

func newSegment(path string, number uint64) *segment {
	return &segment{path: path, number: number, summary: summary{From: 1<<63 - 1, To: -1 << 63}}
}

// openSegment looks at a segment on disk. Of the last one an unfinished line is
// cut off.
func openSegment(path string, number uint64, last bool) (g *segment, cut int64, err error) {
	g = newSegment(path, number)
	st, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	g.bytes = st.Size()
	if !last && g.readSummary() == nil && g.Bytes == g.bytes {
		return g, 0, nil
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	g.summary = newSegment("", 0).summary
	whole, err := lines(f, func(line []byte) error {
		var e event.Event
		if json.Unmarshal(line, &e) == nil {
			g.add(&e)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	if last && whole < g.bytes {
		cut = g.bytes - whole
		if err := errors.Join(f.Truncate(whole), f.Sync()); err != nil {
			return nil, 0, err
		}
		g.bytes = whole
	}
	if !last {
		err = g.writeSummary()
	}
	return g, cut, err
}

// note takes account of an event that was appended.
func (g *segment) note(e *event.Event, n int64) {
	g.bytes += n
	g.add(e)
}

func (g *segment) add(e *event.Event) {
	g.Events++
	g.From, g.To = min(g.From, e.Time), max(g.To, e.Time)
	if i, ok := slices.BinarySearch(g.VMs, e.VM); !ok {
		g.VMs = slices.Insert(g.VMs, i, e.VM)
	}
	if i, ok := slices.BinarySearch(g.Kinds, e.Kind); !ok {
		g.Kinds = slices.Insert(g.Kinds, i, e.Kind)
	}
}

func (g *segment) summaryPath() string {
	return strings.TrimSuffix(g.path, segmentSuffix) + summarySuffix
}

func (g *segment) readSummary() error {
	text, err := os.ReadFile(g.summaryPath())
	if err != nil {
		return err
	}
	return json.Unmarshal(text, &g.summary)
}

// writeSummary makes the summary appear as a whole. One that is lost is made
// again.
func (g *segment) writeSummary() error {
	g.Bytes = g.bytes
	text, err := json.Marshal(g.summary)
	if err != nil {
		return err
	}
	tmp := g.summaryPath() + ".new"
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, g.summaryPath())
}

func (g *segment) delete() error {
	if err := os.Remove(g.summaryPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Remove(g.path)
}
