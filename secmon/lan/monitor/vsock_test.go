package monitor_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"warder/devices/virtio/vsock"
	"warder/internal/oracle"
	"warder/secmon/event"
	"warder/secmon/lan/filter"
	"warder/secmon/lan/monitor"
	"warder/secmon/lan/pcapng"
)

// rpc is a connection by vsock between a VM and the host.
type rpc struct {
	see         vsock.Watcher
	guest, host uint32 // ports
}

const cid = 7

// packet has a packet seen, from the guest or from the host.
func (c rpc) packet(fromGuest bool, op vsock.Op, flags uint32, payload string) (cut bool) {
	p := &vsock.Packet{
		SourceCID: cid, DestinationCID: vsock.HostCID, SourcePort: c.guest, DestinationPort: c.host, Type: 1, Op: op, Flags: flags, Payload: []byte(payload),
	}
	if !fromGuest {
		p.SourceCID, p.DestinationCID, p.SourcePort, p.DestinationPort = p.DestinationCID, p.SourceCID, c.host, c.guest
	}
	le := binary.LittleEndian
	h := p.Header[:0]
	h = le.AppendUint64(le.AppendUint64(h, p.SourceCID), p.DestinationCID)
	h = le.AppendUint32(le.AppendUint32(le.AppendUint32(h, p.SourcePort), p.DestinationPort), uint32(len(payload)))
	h = le.AppendUint16(le.AppendUint16(h, p.Type), uint16(op))
	le.AppendUint32(h, flags)
	return c.see.Packet(p)
}

func (c rpc) dial() {
	c.packet(true, vsock.OpRequest, 0, "")
	c.packet(false, vsock.OpResponse, 0, "")
}

// close ends a connection as Linux does that the guest's program closes.
func (c rpc) close() {
	c.packet(true, vsock.OpShutdown, vsock.ShutdownBoth, "")
	c.packet(false, vsock.OpReset, 0, "")
}

// request has the guest ask and the host answer.
func (c rpc) request() {
	c.packet(true, vsock.OpData, 0, "POST /rpc/Pay HT")
	c.packet(true, vsock.OpData, 0, "TP/1.1\r\nHost: bank\r\nContent-Length: 2\r\n\r\nxy")
	c.packet(false, vsock.OpCreditUpdate, 0, "")
	c.packet(false, vsock.OpData, 0, "HTTP/1.1 402 Payment Required\r\nContent-Length: 0\r\n\r\n")
}

func TestVsockIsFlows(t *testing.T) {
	w := newWorld(t)
	c := rpc{w.mon.Vsock("a"), 1000, 80}
	c.dial()
	c.request()
	flows := w.mon.Flows()
	if len(flows) != 1 {
		t.Fatalf("%d flows", len(flows))
	}
	f := flows[0]
	from, to := f.Ends()
	if f.Transport != "vsock" || f.State != "established" || f.SourceVM != "a" || f.DestinationVM != "" || from != "7:1000" || to != "2:80" ||
		f.Packets != [2]uint64{3, 3} || f.Bytes[0] != 3*vsock.HeaderSize+16+43 || f.Application != "http" {
		t.Errorf("%+v", f)
	}
	if f.ID != event.VsockFlowID(event.VsockEnd{CID: 2, Port: 80}, event.VsockEnd{CID: cid, Port: 1000}) {
		t.Errorf("number %d", f.ID)
	}
	c.close()
	w.later(10)
	want := []string{
		"flow start a a>", "packet http-request a a> http POST bank /rpc/Pay 0", "packet http-response  a> http    402", "flow end a a> http (closed)",
	}
	if got := w.told(); !slices.Equal(got, want) {
		t.Errorf("told\n%q, want\n%q", got, want)
	}
	if s := w.mon.Stats(); s.Unread != 0 || s.Flows != 0 {
		t.Errorf("%+v", s)
	}
}

// TestVsockResets are connections that nobody took, or that broke.
func TestVsockResets(t *testing.T) {
	w := newWorld(t)
	c := rpc{w.mon.Vsock("a"), 1000, 81}
	c.packet(true, vsock.OpRequest, 0, "")
	c.packet(false, vsock.OpReset, 0, "")
	c.packet(true, vsock.OpRequest, 0, "") // again
	c.packet(false, vsock.OpResponse, 0, "")
	c.packet(true, vsock.OpShutdown, vsock.ShutdownSend, "")
	c.packet(false, vsock.OpShutdown, vsock.ShutdownSend, "")
	w.later(10)
	if got, want := w.told(), []string{"flow start a a>", "flow end a a> (reset)", "flow start a a>", "flow end a a> (closed)"}; !slices.Equal(got, want) {
		t.Errorf("told\n%q, want\n%q", got, want)
	}
}

// TestVsockEnds with the VM, or its driver: nobody says anything any more.
func TestVsockEnds(t *testing.T) {
	w := newWorld(t)
	a, b := rpc{w.mon.Vsock("a"), 1000, 80}, rpc{w.mon.Vsock("b"), 1000, 81}
	a.dial()
	b.dial()
	a.see.Reset()
	w.later(0)
	if got, want := w.told(), []string{"flow start a a>", "flow start b b>", "flow end a a> (reset)"}; !slices.Equal(got, want) {
		t.Errorf("told\n%q, want\n%q", got, want)
	}
}

// TestVsockIsQuiet says nothing for an hour, as a service's control connection does.
func TestVsockIsQuiet(t *testing.T) {
	w := newWorld(t)
	rpc{w.mon.Vsock("a"), 1000, 1024}.dial()
	w.later(3600)
	if got := w.told(); !slices.Equal(got, []string{"flow start a a>"}) {
		t.Errorf("told %q", got)
	}
}

func TestVsockIsCut(t *testing.T) {
	w := newWorld(t)
	c := rpc{w.mon.Vsock("a"), 1000, 80}
	c.dial()
	id := w.mon.Flows()[0].ID
	if w.mon.CutVsock(id+1) || !w.mon.CutVsock(id) || w.mon.AtSwitch(id) != nil {
		t.Error("the flow's number is not known, or another")
	}
	if !c.packet(true, vsock.OpData, 0, "x") {
		t.Error("a packet of a flow that was cut goes on")
	}
	// A rule's block is about the packet that completes it.
	c = rpc{w.mon.Vsock("a"), 1001, 80}
	w.block = func(e event.Event) bool { return e.Action == event.HTTPRequest }
	c.dial()
	if c.packet(true, vsock.OpData, 0, "GET / HTTP/1.1\r\nHost: x\r\n") || !c.packet(true, vsock.OpData, 0, "\r\n") {
		t.Error("the packet that completes a request goes on, or one before it does not")
	}
}

func TestVsockAnomalies(t *testing.T) {
	w := newWorld(t)
	see := w.mon.Vsock("a")
	for port := range uint32(20) {
		rpc{see, 1000, 5000 + port}.packet(true, vsock.OpRequest, 0, "")
	}
	see.Packet(&vsock.Packet{SourceCID: cid, DestinationCID: 9, SourcePort: 1, DestinationPort: 22, Type: 1, Op: vsock.OpRequest})
	see.Packet(&vsock.Packet{SourceCID: cid, DestinationCID: 2, SourcePort: 1, DestinationPort: 22, Type: 2, Op: vsock.OpRequest})
	see.Packet(&vsock.Packet{SourceCID: cid, DestinationCID: 2, SourcePort: 1, DestinationPort: 22, Type: 1, Op: 99})
	see.Packet(&vsock.Packet{SourceCID: cid, DestinationCID: 1 << 40, Type: 1, Op: vsock.OpReset})
	got := slices.DeleteFunc(w.told(), func(s string) bool { return strings.HasPrefix(s, "flow") })
	want := []string{
		"anomaly port-scan a a> (tries 20 ports of CID 2 by vsock within 1m0s)",
		"anomaly lateral-movement a a> (asks for CID 9 by vsock, by which it reaches the host alone)",
		"anomaly malformed a a> (a packet of vsock of type 2 for 1 to CID 2)",
		"anomaly malformed a a> (a packet of vsock of type 1 for 99 to CID 2)",
		"anomaly malformed a a> (a packet of vsock of type 1 for 3 to CID 1099511627776)",
	}
	if !slices.Equal(got, want) {
		t.Errorf("told\n%q, want\n%q", got, want)
	}
}

// TestVsockCapture has tshark read a capture of vsock, and of a filter.
func TestVsockCapture(t *testing.T) {
	tshark := oracle.Command(t, "tshark", "tshark")
	w := newWorld(t)
	taps := make(map[string]*monitor.Tap)
	for _, expression := range []string{"", "vsock and src vm a", "tcp", "not vsock", "vm b"} {
		want, err := filter.Parse(expression)
		if err != nil {
			t.Fatal(err)
		}
		taps[expression] = w.mon.Capture(want, 80)
	}
	c := rpc{w.mon.Vsock("a"), 1000, 80}
	c.dial()
	c.request()
	c.close()
	frames := make(map[string]int)
	path := filepath.Join(t.TempDir(), "x.pcapng")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := pcapng.NewWriter(file, "warder", "", 80)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Interface(pcapng.Vsock, "a.vsock", ""); err != nil {
		t.Fatal(err)
	}
	for expression, tap := range taps {
		for tap.Waits() {
			f, err := tap.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if f.At != "a" || !f.Vsock || len(f.Data) > 80 {
				t.Errorf("%q: %+v", expression, f)
			}
			frames[expression]++
			if expression == "" {
				if err := p.Frame(0, f.Time, f.Data, f.Len, ""); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if frames[""] != 8 || frames["vsock and src vm a"] != 4 || len(frames) != 2 {
		t.Errorf("captured %v", frames)
	}
	cmd := exec.CommandContext(t.Context(), tshark, "-r", path, "-T", "fields", "-E", "separator=/s",
		"-e", "frame.interface_name", "-e", "vsock.src_cid", "-e", "vsock.dst_port", "-e", "vsock.op", "-e", "vsock.virtio.op", "-e", "frame.len")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	want := `a.vsock 7 80 1 1 76
a.vsock 2 1000 1 2 76
a.vsock 7 80 4 5 92
a.vsock 7 80 4 5 119
a.vsock 2 1000 3 6 76
a.vsock 2 1000 4 5 128
a.vsock 7 80 2 4 76
a.vsock 2 1000 2 3 76
`
	if string(out) != want {
		t.Errorf("tshark says\n%swant\n%s", out, want)
	}
}

func FuzzVsock(f *testing.F) {
	f.Add([]byte("\x01\x00\x05\x00\x00\x01\x02\x00\x05\x00\x00\x01\x05\x20\x05\x00\x00\x01GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Add([]byte("\x01\x00\x05\x00\x00\x01\x04\x00\x05\x00\x03\x01\x03\x00\x05\x00\x00\x01"))
	f.Fuzz(func(t *testing.T, p []byte) {
		m := monitor.New(monitor.Config{Message: func() int { return 16 }, Sink: func(e event.Event) bool {
			if _, err := e.MarshalJSON(); err != nil {
				t.Fatal(err)
			}
			return len(e.Message) == 3
		}})
		see := m.Vsock("a")
		for len(p) >= 6 {
			op, size, port, side, flags, typ := p[0], int(p[1]), p[2], p[3], p[4], p[5]
			p = p[6:]
			size = min(size, len(p))
			q := &vsock.Packet{
				SourceCID: cid, DestinationCID: vsock.HostCID, SourcePort: uint32(port & 15), DestinationPort: uint32(port >> 4),
				Type: uint16(typ & 3), Op: vsock.Op(op), Flags: uint32(flags), Payload: p[:size],
			}
			if side&1 != 0 {
				q.SourceCID, q.DestinationCID, q.SourcePort, q.DestinationPort = q.DestinationCID, q.SourceCID, q.DestinationPort, q.SourcePort
			}
			if side&2 != 0 {
				q.DestinationCID = uint64(side) << 30
			}
			see.Packet(q)
			p = p[size:]
		}
		m.Advance(1 << 62)
		if s := m.Stats(); s.Flows != 0 || s.Unread != 0 {
			t.Errorf("%+v", s)
		}
	})
}
