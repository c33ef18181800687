package monitor

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"warder/secmon/event"
	"warder/secmon/lan"
	"warder/secmon/lan/app"
	"warder/secmon/lan/flow"
	"warder/secmon/lan/packet"
	"warder/secmon/lan/stream"
)

// Bounds of a monitor.
const (
	// unread is how many bytes of streams may wait to be read, in all, and unreadOfOne
	// how many of what one VM says.
	unread      = 64 << 20
	unreadOfOne = 8 << 20
	// maxLate is how many events of flows that have ended may wait to be told.
	maxLate = 4096
	// vsockFlows is how many flows of vsock are known at a time.
	vsockFlows = 4096
	// MaxMessage is the most of a message that rules can look at, in bytes.
	MaxMessage = 4096
)

// Config is a monitor.
type Config struct {
	// Sink takes an event, on the goroutine of whoever sent the frame, and says
	// whether the frame is to be stopped, with all that follows in its flow.
	Sink func(event.Event) (block bool)
	// Message says how many bytes of each side's first message the rules look at; it is
	// asked once a second. More than MaxMessage are not reported. Default: none.
	Message func() int
}

// Monitor sees the frames of one switch, and the packets of vsock of any VMs. It is safe
// for concurrent use.
type Monitor struct {
	cfg     Config
	flows   *lan.Flows // of the switch, an empty table without one
	vsock   *lan.Flows // of vsock, by the host's time
	memory  *stream.Memory
	message atomic.Int32 // bytes of messages that rules look at
	offset  atomic.Int64 // from the switch's time to the host's, ns
	synced  atomic.Int64 // when it was found, by the switch's time
	taps    taps
	lines   atomic.Int32 // VMs whose vsock is seen
	stats   counters

	mu       sync.Mutex
	machines map[string]*machine // by VM
	late     []event.Event       // of flows that have ended
}

var _ lan.Inspector = (*Monitor)(nil)

// known is what a monitor knows of a flow.
type known struct {
	vms     [2]string // of its source and destination
	app     app.Protocol
	inspect *inspection // nil when there is nothing to learn any more
	learnt  atomic.Bool // that it is nil, for who has not locked the flow
	// Of vsock: shut is that one side is told that nothing more comes or goes, cut that
	// somebody wants it reset.
	shut, cut bool
}

// of is what is known of a flow, nil for one that no frame has been seen of.
func of(f *lan.Flow) *known {
	k, _ := f.Data.Known.(*known)
	return k
}

// counters are what a monitor counts.
type counters struct {
	frames, bytes             atomic.Uint64 // of no flow
	malformed, held, lateLost atomic.Uint64
	vsock                     atomic.Uint64 // packets
}

// Stats are the counts of a monitor.
type Stats struct {
	Frames    uint64 `json:"frames"` // seen, refused ones among them
	Bytes     uint64 `json:"bytes"`
	Vsock     uint64 `json:"vsock"`     // packets of vsock, beside them
	Malformed uint64 `json:"malformed"` // frames and packets that contradict themselves
	Flows     int    `json:"flows"`     // known now
	Evicted   uint64 `json:"evicted"`   // flows that had to go before they were over
	Unread    int64  `json:"unread"`    // bytes of streams that wait for others
	Lost      uint64 `json:"lost"`      // streams given up because something did not fit
	Held      uint64 `json:"held"`      // events beyond what a VM may cause a second
}

// New makes a monitor.
func New(cfg Config) *Monitor {
	m := &Monitor{cfg: cfg, memory: stream.NewMemory(unread, nil), machines: make(map[string]*machine)}
	m.flows = flow.New[lan.Conversation](0, nil)
	m.vsock = flow.New(vsockFlows, func(f *lan.Flow, why string) { m.endedAt(f, f.Last, why) })
	m.ask()
	return m
}

// Start implements [lan.Inspector]. A monitor is that of one switch.
func (m *Monitor) Start(flows *lan.Flows) { m.flows = flows }

// Stats gives the counts so far.
func (m *Monitor) Stats() Stats {
	c := &m.stats
	flows, frames, bytes := m.flows.Counts()
	vsocks, packets, _ := m.vsock.Counts()
	return Stats{
		Frames: frames + c.frames.Load(), Bytes: bytes + c.bytes.Load(), Vsock: packets + c.vsock.Load(), Malformed: c.malformed.Load(),
		Flows: flows + vsocks, Evicted: m.flows.Evicted() + m.vsock.Evicted(),
		Unread: m.memory.Used(), Lost: m.memory.Lost(), Held: c.held.Load(),
	}
}

// Run tells what only time tells, until ctx ends: flows that are over, counts that
// were held back.
func (m *Monitor) Run(ctx context.Context) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-every.C:
			m.Advance(now.UnixNano())
		}
	}
}

// ask finds how much rules look at.
func (m *Monitor) ask() {
	if m.cfg.Message != nil {
		m.message.Store(int32(min(max(m.cfg.Message(), 0), MaxMessage)))
	}
}

// Advance tells what is to be told at a time, in nanoseconds since 1970.
func (m *Monitor) Advance(now int64) {
	m.ask()
	var over []event.Event
	end := func(f *lan.Flow) {
		if k := of(f); k != nil {
			k.forget()
			over = append(over, m.ended(f, now, "idle"))
		}
	}
	m.flows.Advance(now-m.offset.Load(), end)
	m.vsock.Advance(now, end)
	m.tell(over)
	m.tellLate()
	for _, x := range m.all() {
		x.tellDue(m, now)
	}
}

// Ended implements [lan.Inspector].
func (m *Monitor) Ended(f *lan.Flow, why string) { m.endedAt(f, f.Last+m.offset.Load(), why) }

// endedAt has the end of a flow told soon: it is locked.
func (m *Monitor) endedAt(f *lan.Flow, at int64, why string) {
	k := of(f)
	if k == nil {
		return
	}
	k.forget()
	e := m.ended(f, at, why)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.late) == maxLate {
		m.stats.lateLost.Add(1)
		return
	}
	m.late = append(m.late, e)
}

// forget gives back what is held to learn more of a flow.
func (k *known) forget() {
	if in := k.inspect; in != nil {
		in.stop()
		k.inspect = nil
	}
	k.learnt.Store(true)
}

func (m *Monitor) tellLate() {
	m.mu.Lock()
	late := m.late
	m.late = nil
	m.mu.Unlock()
	m.tell(late)
	if n := m.stats.lateLost.Swap(0); n > 0 {
		m.cfg.Sink(event.Event{Time: time.Now().UnixNano(), Kind: event.Loss, Action: "flows", Lost: n, Message: fmt.Sprintf("the ends of %d flows are not told: too many ended at once", n)})
	}
}

// tell hands events on, and says whether one of them is to be stopped.
func (m *Monitor) tell(events []event.Event) (block bool) {
	for _, e := range events {
		if !m.machine(e.VM).mayTell(e.Time) { // what is no VM has "" for its name
			m.stats.held.Add(1)
			continue
		}
		if m.cfg.Sink(e) {
			block = true
		}
	}
	return block
}

// ended is the event of a flow that is over.
func (m *Monitor) ended(f *lan.Flow, now int64, why string) event.Event {
	if f.State.Over() {
		why = f.State.String()
	}
	return event.Event{Time: now, Kind: event.Flow, Action: event.Ended, VM: of(f).vms[0], Message: why, Net: netOf(f)}
}

// netOf is a flow as events have it.
func netOf(f *lan.Flow) *event.Net {
	k := of(f)
	n := &event.Net{
		Transport: transport(f.Protocol), Application: string(k.app), SourceVM: k.vms[0], DestinationVM: k.vms[1],
		VLAN: f.VLAN, Initiated: true, Bytes: f.Bytes, Packets: f.Packets,
	}
	if f.VLAN == vsockVLAN {
		n.Transport, n.VLAN = event.Vsock, 0
		n.Vsock = [2]event.VsockEnd{vsockEnd(f.Src), vsockEnd(f.Dst)}
		n.Flow = event.VsockFlowID(n.Vsock[0], n.Vsock[1])
		return n
	}
	n.Source, n.Destination = ends(f.Protocol, f.Src, f.SrcPort, f.Dst, f.DstPort)
	n.Flow = event.FlowID(n.Transport, n.Source, n.Destination)
	return n
}

// ends are those of a packet. ICMP has no ports: what stands for them in a flow's key is
// a message's type, or an echo's number.
func ends(protocol uint8, src packet.Addr, srcPort uint16, dst packet.Addr, dstPort uint16) (from, to netip.AddrPort) {
	if protocol == packet.ICMP || protocol == packet.ICMPv6 {
		srcPort, dstPort = 0, 0
	}
	return netip.AddrPortFrom(src.IP(), srcPort), netip.AddrPortFrom(dst.IP(), dstPort)
}

// transport is what the Elastic Common Schema calls a protocol of IP.
func transport(protocol uint8) string {
	switch protocol {
	case packet.TCP:
		return "tcp"
	case packet.UDP:
		return "udp"
	case packet.ICMP:
		return "icmp"
	case packet.ICMPv6:
		return "ipv6-icmp"
	case 132:
		return "sctp"
	}
	return fmt.Sprintf("ip-%d", protocol)
}
