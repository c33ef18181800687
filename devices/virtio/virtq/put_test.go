package virtq_test

import (
	"fmt"
	"testing"

	"warder/devices/virtio/virtq"
	"warder/devices/virtio/virtqtest"
)

// TestPutShowsNothing gives chains back in groups: the driver sees each group at
// once, with one interrupt, if it asked for one for any of the group.
func TestPutShowsNothing(t *testing.T) {
	for _, eventIdx := range []bool{false, true} {
		t.Run(fmt.Sprintf("EventIdx=%v", eventIdx), func(t *testing.T) {
			r := virtqtest.NewRing(virtqtest.NewMemory(t), 8, 0, virtqtest.MemorySize)
			r.EventIdx = eventIdx
			interrupts := 0
			q, _ := r.Queue(t, func() error { interrupts++; return nil })
			var used uint16
			for round := range 30000 { // the indices wrap
				size := uint16(round%5 + 1)
				event := used + uint16(round%7) // in the group, or behind it
				r.PutUsedEvent(event)
				r.PutNoInterrupt(event-used >= size)
				for range size {
					r.Add(virtqtest.Buffer{Room: 1})
				}
				for range size {
					c, err := q.Pop()
					if err != nil {
						t.Fatal(err)
					}
					if err := q.Put(c, 1); err != nil {
						t.Fatal(err)
					}
				}
				if _, ok := r.Take(); ok || interrupts != 0 {
					t.Fatalf("round %d: the driver sees what was not published", round)
				}
				for range 2 { // the second time there is nothing to show
					if err := q.Publish(); err != nil {
						t.Fatal(err)
					}
				}
				want := 0
				if event-used < size {
					want = 1
				}
				if interrupts != want {
					t.Fatalf("round %d: %d interrupts for %d chains from %d, event %d", round, interrupts, size, used, event)
				}
				interrupts = 0
				for range size {
					if _, ok := r.Take(); !ok {
						t.Fatalf("round %d: the driver does not see what was published", round)
					}
				}
				used += size
			}
		})
	}
}

// TestChainsAreUsedAgain has chains of all lengths after each other in the memory of
// those before.
func TestChainsAreUsedAgain(t *testing.T) {
	r, q, _, _ := pair(t, 64)
	serve := func(n int) {
		bufs := make([]virtqtest.Buffer, n)
		for i := range bufs {
			bufs[i].Data = []byte{byte(i)}
		}
		r.Add(bufs...)
		c, err := q.Pop()
		if err != nil {
			t.Fatal(err)
		}
		pieces := c.Reader.Pieces()
		if len(pieces) != n {
			t.Fatalf("%d pieces of %d", len(pieces), n)
		}
		for i, p := range pieces {
			if len(p) != 1 || p[0] != byte(i) {
				t.Fatalf("piece %d of %d is % x", i, n, p)
			}
		}
		if err := q.Push(c, 0); err != nil {
			t.Fatal(err)
		}
		r.Take()
	}
	for _, n := range []int{1, 4, 5, 33, 64, 2, 40, 1, 6} {
		serve(n)
	}
	if err := q.Push(&virtq.Chain{}, 0); err == nil {
		t.Error("a chain of nobody's was taken")
	}
}
