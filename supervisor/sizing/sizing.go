// Package sizing decides how large a guest should be.
//
// [Next] is a pure function of what is known of one guest: it lets one that is
// short of something have more at once, and takes away only what has been too much
// for a while. Between the two there is a wide band in which nothing is done, so
// that a load that goes to and fro moves nothing. It knows no machine: samples come
// in, sizes go out, and whether there is that much is for others to say.
package sizing

import (
	"strings"
	"time"
)

// Calm is how long a guest has to have too much before some of it is taken, and
// Scarce how long while others wait for it.
const (
	Calm   = 30 * time.Second
	Scarce = 3 * time.Second
)

// Grain is what sizes of memory are multiples of, in bytes: that of hot-plugged
// memory.
const Grain = 2 << 20

// A Size is what a guest is let have.
type Size struct {
	Memory uint64 `json:"memory"` // bytes
	CPUs   int    `json:"cpus"`   // on line
	// Weight is that of its CPU time beside others'; 0 where that is not shared out.
	Weight int `json:"weight"`
}

// Bounds are what a guest may have: Min at least, Max at most.
type Bounds struct{ Min, Max Size }

// Within is the size next to n that the bounds allow.
func (b Bounds) Within(n Size) Size {
	return Size{
		Memory: max(b.Min.Memory, min(n.Memory, b.Max.Memory)),
		CPUs:   max(b.Min.CPUs, min(n.CPUs, b.Max.CPUs)),
		Weight: max(b.Min.Weight, min(n.Weight, b.Max.Weight)),
	}
}

// A Sample is what is known of a guest at one moment.
type Sample struct {
	Time  time.Time
	Asked Size // what it is let have
	// Has is how much of that it has by now: the memory by the host's account, the
	// CPUs by the guest's word.
	Has    Size
	Memory Memory
	CPU    CPU
	// Read is how many bytes the guest has read from its disks and shares since its
	// start: the host's account.
	Read uint64
	// Pressed says that the guest has called for memory since the last sample.
	Pressed bool
	// Wanted says that others wait for what this guest may have too much of.
	Wanted bool
	// Senior says that there are guests of a smaller priority.
	Senior bool
}

// State is what is remembered of a guest between two samples. The zero State is
// that of one of which there was none.
type State struct {
	seen   bool
	last   time.Time // of the last sample
	memory Memory
	since  time.Time // of the last sample that said something of CPUs
	cpu    CPU
	// How its CPUs were used between that and the one before: past is how long that
	// was, 0 when the present sample says nothing of them; parts of it in CPUs.
	past               time.Duration
	used, waits, delay float64
	// What it had read by then, and whether it reads as much as to need what it has.
	read    uint64
	reading bool
	// Since when it has had too much of either; zero when it has not.
	richMemory, richCPUs time.Time
	calmCPU              time.Time // since when it has got its part of the host's CPUs; zero when it has not
}

// An Order is the size that a guest should have. Why is "" where that is what it is
// let have already.
type Order struct {
	Size
	Why string
}

// Next gives the size that the guest should have, and what to remember.
func Next(st State, s Sample, b Bounds) (State, Order) {
	st.measure(s)
	o := Order{Size: b.Within(Size{Memory: st.nextMemory(s, b), CPUs: st.nextCPUs(s, b), Weight: st.nextWeight(s, b)})}
	var why []string
	if o.Memory != s.Asked.Memory {
		why = append(why, s.whyMemory())
	}
	if o.CPUs != s.Asked.CPUs {
		why = append(why, st.whyCPUs(s))
	}
	if o.Weight != s.Asked.Weight {
		why = append(why, st.whyWeight())
	}
	o.Why = strings.Join(why, "; ")
	st.seen, st.last, st.memory = true, s.Time, s.Memory
	return st, o
}

// calm is how long too much has to last.
func (s Sample) calm() time.Duration {
	if s.Wanted {
		return Scarce
	}
	return Calm
}
