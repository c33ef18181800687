package splice

import (
	"math/rand/v2"
	"testing"

	"warder/secmon/event"
)

// A join by offset is what a file would hold: an array written to in order.
func TestJoinIsAFile(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		joinRandom(t, func(n int) int { return r.IntN(n) })
	}
}

func FuzzJoin(f *testing.F) {
	f.Add([]byte{3, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Fuzz(func(t *testing.T, choices []byte) {
		joinRandom(t, func(n int) int {
			if len(choices) == 0 {
				return 0
			}
			c := int(choices[0]) % n
			choices = choices[1:]
			return c
		})
	})
}

func joinRandom(t *testing.T, choose func(n int) int) {
	t.Helper()
	const size = 400
	var data [size]byte
	owner := [size]int{}
	for i := range owner {
		owner[i] = -1
	}
	end := 0
	atEnd := choose(2) == 0
	var parts []part
	for i := range choose(12) {
		known, hidden := choose(12), choose(4)
		c := event.Call{Size: uint64(known + hidden), Payload: make([]byte, known), Offset: int64(choose(120))}
		for j := range c.Payload {
			c.Payload[j] = byte(i*16 + j)
		}
		at := int(c.Offset)
		if c.Append = choose(3) == 0; c.Append && atEnd {
			at = max(end, at)
		}
		parts = append(parts, part{event.Event{Call: c}})
		if known+hidden == 0 {
			continue
		}
		for j := range known + hidden {
			if j < known {
				owner[at+j], data[at+j] = i, c.Payload[j]
			}
		}
		end = max(end, at+known+hidden)
	}
	long := int64(-1)
	if choose(2) == 0 {
		long = int64(choose(size))
		for i := long; i < size; i++ {
			owner[i] = -1
		}
	}
	gotOwner := [size]int{}
	for i := range gotOwner {
		gotOwner[i] = -1
	}
	last := int64(0)
	for _, s := range join(ByOffset, parts, long, atEnd) {
		if s.at < last || s.size <= 0 {
			t.Fatalf("span at %d of %d bytes after %d", s.at, s.size, last)
		}
		last = s.end()
		for j := range s.data {
			gotOwner[int(s.at)+j] = s.part
			if s.data[j] != data[int(s.at)+j] {
				t.Fatalf("byte %d is %d, want %d", int(s.at)+j, s.data[j], data[int(s.at)+j])
			}
		}
	}
	if owner != gotOwner {
		for i, p := range parts {
			t.Logf("part %d: %d bytes of %d at %d, append %v", i, p.bytes(), p.event.Call.Size, p.event.Call.Offset, p.event.Call.Append)
		}
		t.Fatalf("owners %v\nwant   %v", gotOwner, owner)
	}
	n := 0
	for _, run := range runs(join(ByOffset, parts, long, atEnd)) {
		n += len(run.data)
	}
	for _, o := range owner {
		if o >= 0 {
			n--
		}
	}
	if n != 0 {
		t.Fatalf("runs and bytes differ by %d", n)
	}
}
