package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/pcapgo"

	"warder/internal/testkvm"
	"warder/secmon/event"
	"warder/secmon/lan/monitor"
	"warder/supervisor/api"
	"warder/supervisor/declaration"
	"warder/supervisor/network"
)

// lanRules stop a question, and have flows' processes be known.
const lanRules = `title: A name that nobody has a reason to ask for
logsource: {product: warder, service: packet}
detection: {s: {dns.question.name|startswith: forbidden}, condition: s}
level: high
warder: {response: block}
---
title: A service that was not declared
logsource: {product: warder, service: anomaly}
detection: {s: {event.action: lateral-movement}, condition: s}
level: medium
---
title: Any connection
logsource: {product: linux, category: network_connection}
detection: {s: {DestinationPort: 53}, condition: s}
level: low
warder: {response: record}
`

// TestHostSeesTheLAN has two VMs of a host speak with each other: what they say is events
// with the process that said it, rules judge it, and the commands show it.
func TestHostSeesTheLAN(t *testing.T) {
	testkvm.Need(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "lan.yaml"), []byte(lanRules), 0o644); err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	out := &printer{w: &printed, json: true, verbose: true}
	front := &declaration.LAN{VLAN: "front"}
	h, err := startHost(t.Context(), hostConfig{
		Rules: dir, VMs: []hostVM{{Service: declaration.Service{Name: "a", LAN: front}}, {Service: declaration.Service{Name: "b", LAN: front}}},
		LAN: &network.Config{
			VLANs: []network.VLAN{{Name: "front", Network: netip.MustParsePrefix("10.7.0.0/24")}},
			Allow: []declaration.Allow{{From: declaration.List{"a"}, To: declaration.List{"b"}, Ports: declaration.List{"icmp"}}},
		},
	}, out)
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		if err := h.stop(); err != nil {
			t.Error(err)
		}
	}
	defer stop()

	l, err := api.FindTraffic(t.Context(), api.Dir(), os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	captured := make(chan string)
	reading := make(chan struct{})
	go func() {
		var file bytes.Buffer
		err := l.Capture(t.Context(), url.Values{"filter": {"icmp and src vm a"}, "count": {"1"}}, &started{&file, reading})
		captured <- firstFrame(&file, err)
	}()
	<-reading
	d := &demo{host: h, out: out}
	ping := func(vm, to string, want bool) {
		t.Helper()
		var said bytes.Buffer
		if status, err := d.sh(t.Context(), vm, "ping -c 1 "+to, &said); err != nil || (status == 0) != want {
			t.Errorf("%s pings %s: status %d, %v, %s", vm, to, status, err, said.String())
		}
	}
	ping("a", "b", true)
	ping("a", "forbidden", false)
	ping("a", "undeclared.example.org", false)
	ping("b", "10.7.0.2", false)
	if got, want := <-captured, "a.vlan1 10.7.0.2>10.7.0.3"; got != want {
		t.Errorf("captured %s, want %s", got, want)
	}
	flows, err := readFlows(t.Context(), l, "b")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(flows, func(f monitor.Flow) bool { return f.Transport == "icmp" && f.SourceVM == "a" && f.Packets[1] > 0 }) {
		t.Errorf("flows of b: %+v", flows)
	}
	stop()

	told := make(map[string]bool)
	for line := range strings.Lines(printed.String()) {
		var e event.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		s := fmt.Sprintf("%s %s %s", e.Kind, e.Action, e.VM)
		switch {
		case e.Finding != nil:
			s = fmt.Sprintf("alert %s %v", e.Finding.RuleTitle, e.Finding.VMs)
		case e.Net != nil && e.Net.DNS != nil:
			s += " " + e.Net.DNS.Name
		case e.Kind == event.Flow:
			s += " " + e.Net.Transport + " " + e.Process.Name
		}
		told[s] = true
	}
	for _, want := range []string{
		"flow start a udp ping", "packet dns-query a b", "packet dns-answer  b", "packet dns-query a forbidden", "anomaly lateral-movement b", "anomaly request-refused a undeclared.example.org",
		"alert A name that nobody has a reason to ask for [a]", "alert A service that was not declared [b]",
	} {
		if !told[want] {
			t.Errorf("not told: %s", want)
		}
	}
	if told["packet dns-answer  forbidden"] {
		t.Error("a question that was to be stopped was answered")
	}
	if t.Failed() {
		for s := range told {
			t.Log(s)
		}
	}
}

// started closes begun when something is written.
type started struct {
	w     io.Writer
	begun chan struct{}
}

func (s *started) Write(p []byte) (int, error) {
	if s.begun != nil {
		close(s.begun)
		s.begun = nil
	}
	return s.w.Write(p)
}

// firstFrame says where the first frame of a capture comes from and goes.
func firstFrame(file io.Reader, err error) string {
	if err != nil {
		return err.Error()
	}
	r, err := pcapgo.NewNgReader(file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		return err.Error()
	}
	data, info, err := r.ReadPacketData()
	if err != nil {
		return err.Error()
	}
	in, err := r.Interface(info.InterfaceIndex)
	if err != nil || len(data) < 34 {
		return fmt.Sprintf("%v, %d bytes", err, len(data))
	}
	return fmt.Sprintf("%s %v>%v", in.Name, netip.AddrFrom4([4]byte(data[26:])), netip.AddrFrom4([4]byte(data[30:])))
}
