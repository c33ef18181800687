package mirror

import (
	"testing"
	"testing/synctest"
	"time"

	"warder/devices/virtio/vsock"
	"warder/supervisor/link"
)

// cutter cuts whatever it sees.
type cutter struct{ seen int }

func (c *cutter) Packet(*vsock.Packet) bool { c.seen++; return true }
func (c *cutter) Reset()                    { c.seen = 0 }

func TestGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []uint64
		next := &cutter{}
		g := Guard(next, func(n uint64) { told = append(told, n) })
		dial := func(port uint32) bool {
			return g.Packet(&vsock.Packet{SourceCID: 3, DestinationCID: vsock.HostCID, DestinationPort: port, Op: vsock.OpRequest})
		}
		for range 100 {
			if !dial(link.Port) || !dial(link.Port+1) {
				t.Error("the next watcher was not asked")
			}
		}
		g.Packet(&vsock.Packet{SourceCID: vsock.HostCID, DestinationPort: link.Port, Op: vsock.OpRequest}) // of the host's own
		time.Sleep(guardInterval)
		dial(link.Port)
		if len(told) != 2 || told[0] != 1 || told[1] != 100 || next.seen != 202 {
			t.Errorf("told %v, %d seen", told, next.seen)
		}
		if g.Reset(); next.seen != 0 {
			t.Error("the next watcher was not told of a reset")
		}
		alone := Guard(nil, func(uint64) {})
		if alone.Reset(); alone.Packet(&vsock.Packet{}) {
			t.Error("cut by nobody")
		}
	})
}
