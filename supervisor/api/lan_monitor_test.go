package api

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"warder/devices/virtio/net"
	"warder/secmon/event"
	"warder/secmon/lan"
	"warder/secmon/lan/monitor"
)

// sinkhole is a guest that takes everything.
type sinkhole struct{}

func (sinkhole) Queue(*net.Frame) int                          { return 0 }
func (sinkhole) Deliver(int, *net.Frame, int) (n int, _ error) { return 0, nil }

// pair is a monitored switch with ports a and b; send has a send b a datagram.
func pair(t *testing.T) (m *monitor.Monitor, send func()) {
	t.Helper()
	m = monitor.New(monitor.Config{Sink: func(event.Event) bool { return false }})
	sw := lan.New(lan.Config{Inspector: m})
	var ports []*lan.Port
	for i, name := range []string{"a", "b"} {
		n := byte(i + 1)
		p, err := sw.AddPort(lan.PortConfig{Name: name, VLAN: 7, MAC: net.MAC{2, 0, 0, 0, 0, n}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, n})}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Start(sinkhole{}); err != nil {
			t.Fatal(err)
		}
		ports = append(ports, p)
	}
	if err := sw.SetRules([]lan.Rule{{From: "a", To: "b"}}); err != nil {
		t.Fatal(err)
	}
	frame := []byte("\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01\x08\x00\x45\x00\x00\x1d\x00\x00\x40\x00\x40\x11\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02\x00\x01\x00\x09\x00\x09\x00\x00x")
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(frame[i:]))
	}
	binary.BigEndian.PutUint16(frame[24:], ^uint16(sum>>16+sum))
	return m, func() {
		f := new(net.Frame)
		f.Fill(frame)
		ports[0].Send(f)
	}
}

func TestFlowsOfTheLAN(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sockets")
	s := serve(t, dir)
	if _, err := FindTraffic(t.Context(), dir, 0); err == nil || !strings.Contains(err.Error(), "warder host does") {
		t.Errorf("without a monitor: %v", err)
	}
	m, send := pair(t)
	s.Watch(m)
	send()
	send()
	l, err := FindTraffic(t.Context(), dir, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Frames != 2 || l.LANMonitor.Flows != 1 {
		t.Errorf("%+v", l.LANMonitor)
	}
	for vm, want := range map[string]int{"": 1, "b": 1, "c": 0} {
		n := 0
		for raw, err := range l.Flows(t.Context(), vm) {
			if err != nil {
				t.Fatal(err)
			}
			var f monitor.Flow
			if err := json.Unmarshal(raw, &f); err != nil {
				t.Fatal(err)
			}
			if n++; f.SourceVM != "a" || f.DestinationVM != "b" || f.VLAN != 7 || f.Packets != [2]uint64{2, 0} || f.Destination.Port() != 9 {
				t.Errorf("%+v", f)
			}
		}
		if n != want {
			t.Errorf("VM %q has %d flows, want %d", vm, n, want)
		}
	}
	if _, err := FindTraffic(t.Context(), dir, 1); err == nil {
		t.Error("a LAN of another process was found")
	}
}

// begun closes ready when something is written.
type begun struct {
	w     io.Writer
	ready chan struct{}
}

func (b *begun) Write(p []byte) (int, error) {
	if b.ready != nil {
		close(b.ready)
		b.ready = nil
	}
	return b.w.Write(p)
}

func TestCaptureOfTheLAN(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sockets")
	s := serve(t, dir)
	m, send := pair(t)
	s.Watch(m)
	l, err := FindTraffic(t.Context(), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = l.Capture(t.Context(), url.Values{"filter": {"tcp and nonsense"}}, io.Discard)
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != BadRequest || !strings.Contains(e.Message, "\n        ^ ") {
		t.Errorf("a wrong filter: %v", err)
	}
	if err := l.Capture(t.Context(), url.Values{"snap": {"0"}}, io.Discard); err == nil {
		t.Error("a snapshot of nothing is taken")
	}
	var file bytes.Buffer
	ready := make(chan struct{})
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		<-ready // the tap is there
		for range 3 {
			send()
		}
	}()
	if err := l.Capture(t.Context(), url.Values{"filter": {"udp and vlan 7"}, "count": {"2"}, "snap": {"42"}}, &begun{&file, ready}); err != nil {
		t.Fatal(err)
	}
	<-sent
	r, err := pcapgo.NewNgReader(&file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		in, err := r.Interface(info.InterfaceIndex)
		if n++; err != nil || len(data) != 42 || info.Length != 43 || fmt.Sprint(in.Name, "|", in.Description) != "a.vlan7|a, VLAN 7" {
			t.Errorf("%d of %d bytes on %s|%s, %v", len(data), info.Length, in.Name, in.Description, err)
		}
	}
	if n != 2 {
		t.Errorf("%d frames, want 2", n)
	}
}
