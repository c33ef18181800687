package sizing

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
)

// The band, in parts of what the guest has.
const (
	// A guest of whose memory less than 1/short is available is short.
	short = 8
	// One with less than 1/nothing is doubled.
	nothing = 32
	// One of which more than 1/plenty is available, for as long as it has to be calm,
	// has much too much.
	plenty = 2
	// After a change 1/goal is to be available. It is further from both ends of the
	// band than a guest's load moves by itself.
	goal = 4
	// A growth is at least, and a shrinking at most, 1/step of what the guest has.
	step = 4
	// Programs that wait for memory for more than 1/stalled of the time have too
	// little of it.
	stalled = 10
	// One that reads more than 1/reads of its memory a second has use for what is
	// available: the contents of files are there, and with less memory it would read more.
	reads = 256
)

// Memory is what a guest says of its memory, which may be anything: what comes of
// it is between the bounds. Sizes are in bytes.
type Memory struct {
	Total     uint64 // that its kernel manages: less than it has
	Available uint64 // without swapping
	// Stalls counts allocations that had to reclaim, and Waited is how long some
	// program has waited for memory, since the guest's start.
	Stalls uint64
	Waited time.Duration
}

// nextMemory gives how much memory the guest should have.
func (st *State) nextMemory(s Sample, b Bounds) uint64 {
	m := s.Memory
	if m.Total == 0 {
		return s.Asked.Memory // it has said nothing
	}
	total, available := s.memory()
	waits := s.Pressed
	if st.seen {
		waits = waits || m.Stalls > st.memory.Stalls || m.Waited-st.memory.Waited > s.Time.Sub(st.last)/stalled
	}
	switch {
	case available < total/short || waits && available < total/goal:
		st.richMemory = time.Time{}
		if s.Has.Memory+Grain <= s.Asked.Memory {
			return s.Asked.Memory // more is on its way to it
		}
		more := s.Asked.Memory / step
		if available < total/nothing {
			more = s.Asked.Memory // how much it would use cannot be told
		}
		return up(s.Asked.Memory + more)
	case available <= total/plenty, st.reading && !s.Wanted:
		st.richMemory = time.Time{}
	case st.richMemory.IsZero():
		st.richMemory = s.Time
	case s.Time.Sub(st.richMemory) >= s.calm() && s.Asked.Memory > b.Min.Memory:
		st.richMemory = s.Time // the next step comes as long after this one
		return s.Asked.Memory - min(spare(total, available), s.Asked.Memory/step)/Grain*Grain
	}
	return s.Asked.Memory
}

// memory is how much the guest has that its kernel manages, and how much of that is
// available.
func (s Sample) memory() (total, available uint64) {
	total = min(s.Memory.Total, s.Has.Memory)
	return total, min(s.Memory.Available, total)
}

// whyMemory says what was known of the memory.
func (s Sample) whyMemory() string {
	total, available := s.memory()
	return fmt.Sprintf("%s of %s of memory available", humanize.IBytes(available), humanize.IBytes(total))
}

// spare is how much less a guest needs for 1/goal of it to be available.
func spare(total, available uint64) uint64 {
	used := total - available
	need := used / (goal - 1) * goal
	return total - min(need, total)
}

func up(n uint64) uint64 { return (n + Grain - 1) / Grain * Grain }
