package share_test

import (
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkAccess is a request of 4 KiB through the device: without a monitor, with one, and with
// rules that look at what is written and read.
func BenchmarkAccess(b *testing.B) {
	const size = 4096
	for _, op := range []struct {
		name string
		op   uint32
		data int
		room int
	}{{"read", opRead, 0, size}, {"write", opWrite, size, 8}} {
		for _, how := range []string{"without", "monitor", "rules"} {
			b.Run(op.name+"/"+how, func(b *testing.B) {
				w := newWorld(b)
				switch how {
				case "without":
					w.mon = nil
				case "rules":
					w.content = 64 << 10
				}
				g := w.guest("a", b.TempDir())
				node, handle := g.open("f", unix.O_RDWR|unix.O_CREAT)
				head := cat(handle, uint64(0), uint32(size), uint32(0), uint64(0), uint32(0), uint32(0))
				g.must(g.ask(opWrite, node, cat(head, make([]byte, size)), 8))
				args := cat(head, make([]byte, op.data))
				b.ReportAllocs()
				for b.Loop() {
					g.must(g.ask(op.op, node, args, op.room))
					w.events = nil
				}
			})
		}
	}
}
