package vsock

import "syscall"

// A Watcher sees each packet between a guest and the host before it goes on.
type Watcher interface {
	// Packet looks at a packet, which is good until it returns, and says whether the
	// connection is to be reset instead. It is called by the worker of the queue that the
	// packet is in, for both queues at once, and does not wait: least of all for the device
	// to be suspended, which waits for it. Resets pass whatever it says.
	Packet(p *Packet) (cut bool)
	// Reset says that all connections are over, without a packet: the driver has reset the
	// device, or the device is gone. It does not wait.
	Reset()
}

// Packet is a packet as a [Watcher] sees it.
type Packet struct {
	// SourceCID and DestinationCID are as its sender has them: a guest can ask for any
	// destination, and reaches the host alone.
	SourceCID, DestinationCID   uint64
	SourcePort, DestinationPort uint32
	// Type is that of the socket, 1 for streams; others are refused.
	Type uint16
	Op   Op
	// Flags are of a shutdown: what its sender will no longer do.
	Flags uint32
	// Header is the packet's as it is in the queue, Payload what follows.
	Header  [HeaderSize]byte
	Payload []byte
}

// Stream reports whether the packet is of a stream.
func (p *Packet) Stream() bool { return p.Type == typeStream }

// passes shows a packet to the watcher, if there is one, and says whether it goes on.
// One that does not has its connection reset.
func (d *Device) passes(w *Packet, h header, payload []byte, connection ports) bool {
	if d.watcher == nil {
		return true
	}
	*w = Packet{
		SourceCID: h.SrcCID, DestinationCID: h.DstCID, SourcePort: h.SrcPort, DestinationPort: h.DstPort,
		Type: h.Type, Op: h.Op, Flags: h.Flags, Payload: payload,
	}
	h.encode(&w.Header)
	if !d.watcher.Packet(w) || h.Op == OpReset {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.conns[connection]; c != nil {
		c.abort(syscall.ECONNABORTED)
	} else if h.SrcCID != HostCID {
		d.refuse(h)
	}
	return false
}
