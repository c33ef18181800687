package splice

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
)

// write appends so many bytes to a file.
func write(vm string, at int64, n int) event.Event {
	return event.Event{Time: at, Kind: event.Syscall, VM: vm, Call: event.Call{
		Name: "write", Offset: -1, Append: true, Flags: unix.O_WRONLY, Size: uint64(n), Payload: make([]byte, n),
		File: event.File{Share: "/srv", Inner: "/tool", Device: 1, Inode: 7, Size: -1},
	}}
}

// However much is contributed, the limits hold, and what was pushed out is
// counted.
func TestMemoryIsBounded(t *testing.T) {
	l := Limits{Objects: 10, PartsPerObject: 5, BytesPerObject: 2800, Bytes: 9000}
	e := New([]*Rule{compile(t, source)}, l)
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 20000 {
		ev := write("vm", int64(i), r.IntN(50)+1)
		ev.Seq = uint64(i)
		ev.Call.File.Inode = r.Uint64N(30)
		ev.Call.File.Inner = fmt.Sprint("/", r.IntN(30))
		if r.IntN(20) == 0 {
			ev.Call.Name, ev.Call.Flags = "openat", unix.O_WRONLY|unix.O_CREAT
			ev.Call.File.Inode, ev.Call.File.Absent = 0, true
		}
		e.Observe(&ev)
		checkStore(t, e.store)
	}
	s := e.Stats()
	if s.EvictedObjects == 0 || s.EvictedParts == 0 {
		t.Errorf("nothing evicted: %+v", s)
	}
}

// checkStore holds the store's accounts against what it holds.
func checkStore(t *testing.T, s *store) {
	t.Helper()
	total := 0
	reachable := make(map[*object]bool)
	for k, o := range s.byPath {
		if o.path != k {
			t.Fatalf("%q leads to %q", k, o.path)
		}
		reachable[o] = true
	}
	for k, o := range s.byInode {
		if o.inode != k.inode {
			t.Fatalf("%+v leads to inode %d", k, o.inode)
		}
		reachable[o] = true
	}
	for el := s.recent.Front(); el != nil; el = el.Next() {
		o := el.Value.(*object)
		if !reachable[o] {
			t.Fatalf("an object that nothing leads to: %+v", o)
		}
		sum := 0
		for i := range o.parts {
			sum += o.parts[i].bytes()
		}
		if sum != o.bytes || sum > s.limits.BytesPerObject || len(o.parts) > s.limits.PartsPerObject {
			t.Fatalf("%d bytes in %d parts, accounted %d", sum, len(o.parts), o.bytes)
		}
		total += sum
	}
	if len(reachable) != s.recent.Len() || s.recent.Len() > s.limits.Objects || total != s.bytes || total > s.limits.Bytes {
		t.Fatalf("%d objects reachable of %d, %d bytes, accounted %d", len(reachable), s.recent.Len(), total, s.bytes)
	}
}
