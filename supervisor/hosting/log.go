package hosting

import (
	"bytes"
	"context"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// logRoom is how much of a service's output is kept, in bytes.
	logRoom = 512 << 10
	// maxLine is how long a line is at most; a longer one becomes several.
	maxLine = 4 << 10
)

// A Line is a line of what a service said.
type Line struct {
	Seq    uint64    `json:"seq"`
	Time   time.Time `json:"time"`
	Stream string    `json:"stream"` // stdout, stderr
	Text   string    `json:"text"`
	// Lost is how many lines before this one are not kept any more.
	Lost uint64 `json:"lost,omitempty"`
}

// newLog keeps the last of a service's output.
func newLog() *tape[Line] {
	const overhead = 96 // bytes of a Line beside its text
	return newTape(logRoom, func(l Line) int { return len(l.Text) + overhead })
}

// splitter makes lines of a stream of output. What a guest sends is anything.
type splitter struct {
	log    *tape[Line]
	stream string

	mu  sync.Mutex
	buf []byte
}

// Write never fails.
func (s *splitter) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for rest := p; len(rest) > 0; {
		n := min(len(rest), maxLine-len(s.buf))
		end := bytes.IndexByte(rest[:n], '\n')
		switch {
		case end >= 0:
			s.buf = append(s.buf, rest[:end]...)
			rest = rest[end+1:]
			s.put()
		default:
			s.buf = append(s.buf, rest[:n]...)
			rest = rest[n:]
			if len(s.buf) == maxLine {
				s.put()
			}
		}
	}
	return len(p), nil
}

// flush makes a line of what has no end yet.
func (s *splitter) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.buf) > 0 {
		s.put()
	}
}

func (s *splitter) put() {
	text := string(bytes.ToValidUTF8(bytes.TrimSuffix(s.buf, []byte{'\r'}), []byte(string(utf8.RuneError))))
	s.buf = s.buf[:0]
	s.log.add(func(seq uint64) Line { return Line{Seq: seq, Time: time.Now(), Stream: s.stream, Text: text} })
}

// Logs hands the last lines of a service's output to put, all that are kept when
// n is negative, and with follow goes on until ctx ends or put fails.
func (h *Host) Logs(ctx context.Context, name string, n int, follow bool, put func(Line) error) error {
	e, _, err := h.find(name)
	if err != nil {
		return err
	}
	seq := uint64(0)
	if n >= 0 {
		seq = e.log.last(n)
	}
	return play(ctx, e.log, seq, follow, func(l Line, lost uint64) error {
		l.Lost = lost
		return put(l)
	})
}

// play hands values to put, each with how many are missing before it.
func play[T any](ctx context.Context, t *tape[T], seq uint64, follow bool, put func(v T, lost uint64) error) error {
	for first := true; ; first = false {
		values, next, lost, more := t.from(seq)
		if first && seq == 0 {
			lost = 0 // it is asked for what there is
		}
		for _, v := range values {
			if err := put(v, lost); err != nil {
				return err
			}
			lost = 0
		}
		if seq = next; !follow {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
	}
}
