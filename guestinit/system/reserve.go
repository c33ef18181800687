package system

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	// reservePart and leastReserve say how much of the memory the reserve is: enough
	// for the kernel to manage what is plugged in, a block of 128 MiB at a time.
	reservePart  = 12
	leastReserve = 8 << 20
	// patience is how long the commands are held up for the host to give more.
	patience = 2 * time.Second
	// slack is how exactly the reserve is kept.
	slack = 1 << 20
	// growing is how long after the guest got memory there may be more of it on its way,
	// which comes block by block.
	growing = 200 * time.Millisecond
)

// A reserve is the last of the guest's memory, which its commands do not get at
// once. A guest with hardly anything to reclaim would otherwise be out of memory
// before any of its processes has waited for some: the kernel's own watch says
// nothing until then. In the reserve the kernel slows the commands down
// (memory.high of cgroup v2) and says that they are there. When the host gives
// nothing within patience, they get the reserve too.
//
// What is reclaimed easily counts as available: commands that only fill the page
// cache do not come near it.
type reserve struct {
	dir     string   // of the cgroup of all commands
	meminfo string   // the file
	events  *os.File // memory.events of the cgroup

	crossings uint64    // so far
	line      uint64    // bytes that the commands may use; 0 while there is no bound
	total     uint64    // memory of the guest when the line was crossed
	seen      uint64    // memory of the guest at the last look
	grown     time.Time // when that was more than before
	until     time.Time // when the host's time is up; zero while the line is not crossed
}

func newReserve(dir, meminfo string) (*reserve, error) {
	if dir == "" {
		return nil, errors.New("reserve of memory: no cgroups")
	}
	f, err := os.Open(filepath.Join(dir, "memory.events"))
	if err != nil {
		return nil, fmt.Errorf("reserve of memory: %w", err)
	}
	r := &reserve{dir: dir, meminfo: meminfo, events: f}
	r.crossed()
	r.keep(time.Now())
	return r, nil
}

// tick is when the reserve is to be looked at again.
func (r *reserve) tick() time.Duration {
	if r != nil && (!r.until.IsZero() || time.Since(r.grown) < growing) {
		return shortTick
	}
	return calmTick
}

// crossed tells whether commands have come into the reserve of late.
func (r *reserve) crossed() bool {
	var b [512]byte
	n, err := r.events.ReadAt(b[:], 0) // which has the next change be told
	if n == 0 && err != nil {
		return false
	}
	count := field(b[:n], "high")
	news := count != r.crossings
	r.crossings = count
	if !news || r.line == 0 || !r.until.IsZero() {
		return false
	}
	r.total, r.until = r.memory().total, time.Now().Add(patience)
	return true
}

// keep moves the line to where the reserve is left: as the guest gets memory, and as
// what is used beside the commands changes.
func (r *reserve) keep(now time.Time) {
	if r == nil {
		return
	}
	m := r.memory()
	if m.total > r.seen && r.seen != 0 {
		r.grown = now
	}
	r.seen = m.total
	size := max(m.total/reservePart, leastReserve)
	switch {
	case !r.until.IsZero() && (m.total > r.total || m.available > size+slack): // there is more, or was already
		r.until = time.Time{}
	case !r.until.IsZero() && now.After(r.until): // nobody gives any
		r.until = time.Time{}
		r.set(0)
		return
	case !r.until.IsZero(), r.line == 0 && m.available < 2*size:
		return
	}
	if m.available > size {
		r.set(m.used + m.available - size)
	}
}

// set has the commands slowed down above line, or nowhere if it is 0.
func (r *reserve) set(line uint64) {
	if line != 0 && r.line != 0 && max(line, r.line)-min(line, r.line) < slack {
		return
	}
	text := "max"
	if line != 0 {
		text = strconv.FormatUint(line, 10)
	}
	if os.WriteFile(filepath.Join(r.dir, "memory.high"), []byte(text), 0) == nil {
		r.line = line
	}
}

// memory is how much the guest has, how much of that is available, and how much the
// commands use; zeros where it cannot be read.
func (r *reserve) memory() (m struct{ total, available, used uint64 }) {
	meminfo, err := os.ReadFile(r.meminfo)
	if err != nil {
		return m
	}
	m.total, m.available = kibibytes(meminfo, "MemTotal:"), kibibytes(meminfo, "MemAvailable:")
	used, err := os.ReadFile(filepath.Join(r.dir, "memory.current"))
	if err != nil {
		return m
	}
	m.used, _ = strconv.ParseUint(string(bytes.TrimSpace(used)), 10, 64)
	return m
}
