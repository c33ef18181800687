package monitor

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"warder/devices/virtio/vsock"
	"warder/secmon/event"
	"warder/secmon/lan"
	"warder/secmon/lan/flow"
	"warder/secmon/lan/packet"
	"warder/secmon/lan/stream"
)

// vsockVLAN stands for vsock in the keys of flows: no VLAN has that number.
const vsockVLAN = 0xffff

// hostName is what the host is called where a VM's name would be.
const hostName = "host"

// line is the vsock of one VM.
type line struct {
	m     *Monitor
	vm    string
	owner int32 // of flows; in the switch's table a port is that
}

// Vsock is what the vsock device of a VM reports to. Its connections are flows as others are,
// between the VM and the host.
func (m *Monitor) Vsock(vm string) vsock.Watcher {
	return &line{m, vm, (m.lines.Add(1) - 1) % flow.MaxPorts}
}

// Packet implements [vsock.Watcher].
func (l *line) Packet(p *vsock.Packet) (cut bool) {
	t := turn{Monitor: l.m, now: time.Now().UnixNano()}
	if p.SourceCID > math.MaxUint32 || p.DestinationCID > math.MaxUint32 {
		t.oddPacket(l, p)
	} else {
		cut = t.vsock(l, p)
	}
	l.m.taps.offerVsock(l, p, t.now)
	return len(t.events) > 0 && l.m.tell(t.events) || cut
}

// Reset implements [vsock.Watcher].
func (l *line) Reset() {
	l.m.vsock.Drop(func(f *lan.Flow) bool { k := of(f); return k.vms[0] == l.vm || k.vms[1] == l.vm }, "reset")
}

// oddPacket is for one that no driver of a guest sends.
func (t *turn) oddPacket(l *line, p *vsock.Packet) {
	t.stats.vsock.Add(1)
	t.stats.malformed.Add(1)
	what := fmt.Sprintf("a packet of vsock of type %d for %d to CID %d", p.Type, p.Op, p.DestinationCID)
	t.events = t.machine(l.vm).does(t.events, t.now, malformed, what, &event.Net{Transport: event.Vsock, SourceVM: l.vm, Initiated: true})
}

// vsockFlags are the flags that a segment of TCP would have where a packet is for that.
var vsockFlags = [...]uint8{
	vsock.OpRequest: packet.SYN, vsock.OpResponse: packet.SYN | packet.ACK, vsock.OpReset: packet.RST, vsock.OpShutdown: packet.ACK,
	vsock.OpData: packet.ACK, vsock.OpCreditUpdate: packet.ACK, vsock.OpCreditRequest: packet.ACK,
}

// vsock counts a packet in its flow, and reads it if there is something to learn. It says
// whether somebody wants the flow cut.
func (t *turn) vsock(l *line, p *vsock.Packet) (cut bool) {
	if p.Op == vsock.OpInvalid || int(p.Op) >= len(vsockFlags) || !p.Stream() {
		t.oddPacket(l, p)
		return false
	}
	h := &packet.Headers{Protocol: packet.TCP, Transport: true, Flags: vsockFlags[p.Op]}
	if p.Op == vsock.OpShutdown && p.Flags&vsock.ShutdownSend != 0 {
		h.Flags |= packet.FIN
	}
	h.Src, h.Dst = vsockAddr(p.SourceCID, p.SourcePort), vsockAddr(p.DestinationCID, p.DestinationPort)
	key, forward := flow.KeyOf(h, vsockVLAN)
	part, hash := t.Monitor.vsock.Part(&key)
	part.Lock()
	f := part.Find(hash, &key)
	fresh := f == nil
	switch {
	case fresh:
		f = part.Add(hash, h, &key, vsockVLAN, forward, l.owner, t.now)
	case f.State.Over() && p.Op == vsock.OpRequest:
		part.Again(f, h, forward, l.owner, t.now)
		fresh = true
	}
	if f == nil { // all flows are of others that keep theirs
		part.Unlock()
		t.stats.vsock.Add(1)
		return false
	}
	d := f.Direction(forward)
	if fresh {
		t.beginsVsock(l, f, d, p)
	}
	f.Count(d, len(p.Header)+len(p.Payload), 1, t.now)
	k := of(f)
	k.step(f, d, p, h.Flags)
	cut = k.cut
	if k.inspect != nil {
		t.hears(f, k.inspect, d, p.Payload)
	}
	part.Unlock()
	if fresh {
		t.dials(l, p)
	}
	return cut
}

// step is what a packet does to the flow's state.
func (k *known) step(f *lan.Flow, d int, p *vsock.Packet, flags uint8) {
	switch {
	case k.shut && p.Op == vsock.OpReset:
		// The end that was told of both answers so.
		f.Step(d, packet.FIN)
		f.Step(1-d, packet.FIN)
	case p.Op == vsock.OpResponse:
		f.Step(d, flags)
		f.Step(1-d, packet.ACK) // nothing more is needed
	default:
		f.Step(d, flags)
	}
	k.shut = k.shut || p.Op == vsock.OpShutdown && p.Flags&vsock.ShutdownBoth == vsock.ShutdownBoth
}

// beginsVsock fills in what is known of a new flow.
func (t *turn) beginsVsock(l *line, f *lan.Flow, d int, p *vsock.Packet) {
	k := &known{inspect: &inspection{}}
	if p.SourceCID == vsock.HostCID {
		k.vms[1-d] = l.vm
	} else {
		k.vms[d] = l.vm
	}
	f.Data.Known = k
	t.begun = netOf(f)
	t.events = append(t.events, event.Event{Time: t.now, Kind: event.Flow, Action: event.Began, VM: k.vms[0], Net: t.begun})
}

// dials tells what it means that a guest opens a flow. The flow is not locked any more.
func (t *turn) dials(l *line, p *vsock.Packet) {
	t.tellLate()
	if p.Op != vsock.OpRequest || p.SourceCID == vsock.HostCID {
		return
	}
	x := t.machine(l.vm)
	if p.DestinationCID != vsock.HostCID {
		what := fmt.Sprintf("asks for CID %d by vsock, by which it reaches the host alone", p.DestinationCID)
		t.events = x.does(t.events, t.now, lateral, what, t.begun)
	}
	t.events = x.found(t.events, t.now, t.begun, x.Dials(t.now, uint32(p.DestinationCID), p.DestinationPort))
}

// hears reads what one side of a flow of vsock says. Nothing of it is lost on the way, or
// comes in another order.
func (t *turn) hears(f *lan.Flow, in *inspection, d int, payload []byte) {
	if half := &in.halves[d]; len(payload) > 0 {
		if half.Memory == nil {
			half.Memory = t.machine(of(f).vms[d]).memory
		}
		at := in.said[d]
		in.said[d] += uint32(len(payload))
		if half.Add(at, stream.Pieces{Head: payload}, 0, len(payload)) {
			t.segment(f, in, d)
		}
	}
	if f.State.Over() || in.halves[0].Over() && in.halves[1].Over() {
		of(f).forget()
	}
}

// vsockAddr is an end as the flow table has it.
func vsockAddr(cid uint64, port uint32) (a packet.Addr) {
	binary.BigEndian.PutUint32(a[8:], uint32(cid))
	binary.BigEndian.PutUint32(a[12:], port)
	return a
}

func vsockEnd(a packet.Addr) event.VsockEnd {
	return event.VsockEnd{CID: binary.BigEndian.Uint32(a[8:]), Port: binary.BigEndian.Uint32(a[12:])}
}

// CutVsock has the flows of vsock that events call id reset with their next packet, and
// says whether there are any.
func (m *Monitor) CutVsock(id uint64) (found bool) {
	m.vsock.Each(func(f *lan.Flow) bool {
		if !f.State.Over() && netOf(f).Flow == id {
			of(f).cut, found = true, true
		}
		return true
	})
	return found
}

// Fields of struct af_vsockmon_hdr (include/uapi/linux/vsockmon.h).
const (
	vsockmonSize   = 32
	vsockmonVirtio = 2 // the transport's header is that of virtio
)

// vsockmonOps are the kernel's words for what a packet is for.
var vsockmonOps = [...]uint16{
	vsock.OpRequest: 1, vsock.OpResponse: 1, // connect
	vsock.OpReset: 2, vsock.OpShutdown: 2, // disconnect
	vsock.OpCreditUpdate: 3, vsock.OpCreditRequest: 3, // control
	vsock.OpData: 4, // payload
}

// vsockmon appends at most n bytes of a packet as the kernel's vsockmon shows it.
func vsockmon(dst []byte, p *vsock.Packet, n int) []byte {
	le := binary.LittleEndian
	var h [vsockmonSize]byte
	le.PutUint64(h[0:], p.SourceCID)
	le.PutUint64(h[8:], p.DestinationCID)
	le.PutUint32(h[16:], p.SourcePort)
	le.PutUint32(h[20:], p.DestinationPort)
	if int(p.Op) < len(vsockmonOps) {
		le.PutUint16(h[24:], vsockmonOps[p.Op])
	}
	le.PutUint16(h[26:], vsockmonVirtio)
	le.PutUint16(h[28:], vsock.HeaderSize)
	for _, piece := range [][]byte{h[:], p.Header[:], p.Payload} {
		piece = piece[:min(len(piece), n)]
		dst, n = append(dst, piece...), n-len(piece)
	}
	return dst
}
