package monitor_test

import (
	"testing"

	"warder/devices/virtio/vsock"
)

// BenchmarkVsock is what the monitor costs a packet of vsock in the middle of a connection.
func BenchmarkVsock(b *testing.B) {
	w := newWorld(b)
	c := rpc{w.mon.Vsock("a"), 1000, 80}
	c.dial()
	for _, fromGuest := range []bool{true, false} {
		c.packet(fromGuest, vsock.OpData, 0, "neither of any protocol that is known")
	}
	p := &vsock.Packet{SourceCID: cid, DestinationCID: vsock.HostCID, SourcePort: 1000, DestinationPort: 80, Type: 1, Op: vsock.OpData, Payload: make([]byte, 4096)}
	b.ReportAllocs()
	for b.Loop() {
		c.see.Packet(p)
	}
}
