package pattern_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/pattern"
	"warder/secmon/pattern/example"
	"warder/secmon/pattern/measure"
)

// A day of 10,000 VMs, in simulated time, with everyday work, writes to shares and
// what rules match, takes no more memory at its end than after a part of it.
func TestDay(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 200,000 events; without -short")
	}
	const vms, events, parts = 10_000, 200_000, 20
	l, err := pattern.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	e, err := pattern.New(l, pattern.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	stream := measure.Traffic(4096, 1)
	for _, r := range l.Rules {
		if r.Detection == nil {
			continue
		}
		if ev, err := example.Of(r.Rule); err == nil {
			stream = append(stream, *ev)
		}
	}
	rng := rand.New(rand.NewPCG(15, 16))
	names := make([]string, vms)
	for i := range names {
		names[i] = fmt.Sprint("vm", i)
	}
	at, step := int64(0), int64(24*time.Hour)/events
	var heap []uint64
	for i := range events {
		ev := stream[rng.IntN(len(stream))]
		if rng.IntN(10) == 0 { // parts of what could be a splice
			ev.Call.File = event.File{Path: "/mnt/x", Share: "/srv", Inner: fmt.Sprint("/", rng.IntN(20000)), Device: 1, Inode: uint64(1 + rng.IntN(20000)), Size: -1}
			ev.Kind, ev.Call.Name, ev.Call.Flags, ev.Call.Append = event.Syscall, "write", unix.O_WRONLY|unix.O_APPEND, true
			ev.Call.Payload = make([]byte, rng.IntN(4096))
			ev.Call.Size = uint64(len(ev.Call.Payload))
		}
		ev.VM, ev.Time, ev.Seq = names[rng.IntN(vms)], at, uint64(i)
		e.Observe(&ev)
		e.Advance(at)
		if at += step; (i+1)%(events/parts) == 0 {
			heap = append(heap, live())
		}
	}
	// After a fifth of the day all that is bounded has reached its bound.
	early, late := uint64(0), uint64(0)
	for i, n := range heap {
		if i < parts/2 {
			early = max(early, n)
		} else {
			late = max(late, n)
		}
	}
	t.Logf("live heap by part of the day: %v MiB", mib(heap))
	if late > early+early/10 {
		t.Errorf("%d bytes at most in the first half, %d later", early, late)
	}
	if s := e.Stats(); s.Matches == 0 || s.Splice.Parts == 0 || s.Alerts == 0 {
		t.Errorf("%+v", s)
	}
}

// live is how many bytes the heap has that are used.
func live() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func mib(n []uint64) (out []uint64) {
	for _, b := range n {
		out = append(out, b>>20)
	}
	return out
}
