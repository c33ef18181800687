package virtq_test

import (
	"testing"

	"warder/devices/virtio/virtqtest"
)

// TestLongChainsMakeNoGarbage has one chain after the other that is as long as it may be,
// of which what answers is split off, as a file system's is.
func TestLongChainsMakeNoGarbage(t *testing.T) {
	const size = 512
	r := virtqtest.NewRing(virtqtest.NewMemory(t), size, 0, virtqtest.MemorySize)
	q, _ := r.Queue(t, func() error { return nil })
	bufs := make([]virtqtest.Buffer, size)
	for i := range bufs {
		bufs[i].Room = 16
	}
	head := r.AddIndirect(bufs...)
	n := testing.AllocsPerRun(100, func() {
		c, err := q.Pop()
		if c == nil || err != nil {
			t.Fatal(c, err)
		}
		data := c.Writer.SplitTail(c.Writer.Len() - 16)
		if c.Writer.Len() != 16 || data.Len() != 16*(size-1) {
			t.Fatalf("split into %d and %d", c.Writer.Len(), data.Len())
		}
		if err := q.Push(c, 0); err != nil {
			t.Fatal(err)
		}
		r.PutAvail(head)
	})
	if n > 1 { // what was split off
		t.Errorf("%v allocations a chain", n)
	}
}
