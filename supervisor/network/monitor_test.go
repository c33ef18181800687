package network

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"warder/secmon/event"
	"warder/secmon/lan/monitor"
	"warder/secmon/pattern"
	"warder/secmon/pattern/sigma"
	"warder/secmon/share"
)

// ear keeps what the monitor of a LAN tells.
type ear struct {
	mon    *monitor.Monitor
	shares *share.Monitor
	rules  *pattern.Engine

	mu     sync.Mutex
	events []event.Event
}

func newEar(t *testing.T) *ear {
	t.Helper()
	e := &ear{}
	rules, err := sigma.Parse("share.yaml", []byte(throughShare), sigma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	library, err := pattern.NewLibrary(rules)
	if err != nil {
		t.Fatal(err)
	}
	if n := library.Needs(); n.Share == 0 || len(n.Syscalls) != 0 {
		t.Errorf("the rule needs %+v", n)
	}
	if e.rules, err = pattern.New(library, pattern.DefaultLimits); err != nil {
		t.Fatal(err)
	}
	e.mon = monitor.New(monitor.Config{Sink: e.take})
	e.shares = share.New(share.Config{Sink: e.take, Content: func() int { return library.Needs().Share }})
	return e
}

// throughShare is a rule for which nothing is trapped.
const throughShare = `title: Script that changes a kernel parameter, put together on a share
id: 2b1b8e0e-5a0f-4a38-8f37-0b8a6e0f6d11
status: test
level: high
logsource: {product: linux, category: file_event}
correlation:
    type: warder_splice
    group-by: [file]
    timespan: 1h
    condition: {gte: 2}
    parts: {share: [write]}
    match:
        strings: ['echo 0 >/proc/sys/kernel/randomize_va_space']
    trigger: {share: [read]}
warder: {response: block}
`

func (e *ear) take(ev event.Event) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, ev)
	verdict, alerts := e.rules.Observe(&ev)
	e.events = append(e.events, alerts...)
	return verdict.Errno != 0
}

// heard holds what was told of TestVMs against what was done there, with a port of
// the database's and one outside.
func (e *ear) heard(t *testing.T, n *Network, database, outside int) {
	t.Helper()
	e.mon.Advance(time.Now().UnixNano())
	e.mu.Lock()
	defer e.mu.Unlock()
	told := make(map[string]int)
	for i := range e.events {
		ev := &e.events[i]
		s := fmt.Sprintf("%s %s %s", ev.Kind, ev.Action, ev.VM)
		if x := ev.Net; x != nil && x.DestinationVM != "" {
			s += " > " + x.DestinationVM
		}
		if x := ev.Net; x != nil && x.Transport == "tcp" {
			s += fmt.Sprintf(":%d", x.Destination.Port())
		}
		if x := ev.Net; x != nil && x.Transport == event.Vsock {
			s += fmt.Sprintf(" by vsock to %v", x.Vsock[1])
		}
		if x := ev.Net; x != nil && x.Transport == event.Share {
			s += fmt.Sprintf(": %s %d+%d", ev.Call.File.Inner, ev.Call.Offset, ev.Call.Size)
		}
		if ev.Finding != nil {
			s += " " + strings.Join(ev.Finding.VMs, ",")
		}
		if x := ev.Net; x != nil && x.HTTP != nil {
			s += " " + x.HTTP.Path
		}
		if x := ev.Net; x != nil && x.DNS != nil {
			s += " " + x.DNS.Type + " " + x.DNS.Name
		}
		told[s]++
	}
	for _, want := range []string{
		fmt.Sprintf("flow start web > db:%d", database), fmt.Sprintf("flow start web:%d", outside), "packet dns-query web A db", "packet dns-query web AAAA db",
		"flow start web by vsock to 2:1024", "flow start db by vsock to 2:1024", fmt.Sprintf("packet http-request web by vsock to 2:%d /rpc/pay", rpcPort),
		"packet file web > db: /script 0+12", "packet file other > web: /script ", "packet file web > other: /script ", "alert  db web,other,db",
		"anomaly lateral-movement web > db:81", "anomaly mac-spoofing web", "anomaly mac-spoofing other", "anomaly vlan-hopping web", "anomaly vlan-hopping other",
	} {
		found := false
		for s := range told {
			found = found || strings.HasPrefix(s, want)
		}
		if !found {
			t.Errorf("the monitor does not tell of %q", want)
		}
	}
	for s, count := range told {
		t.Logf("%4d %s", count, s)
		if strings.HasPrefix(s, "anomaly malformed") || strings.HasPrefix(s, "anomaly port-scan") || strings.HasPrefix(s, "anomaly beacon") || strings.HasPrefix(s, "anomaly wrong-port") {
			t.Errorf("nobody did that: %s", s)
		}
	}
	// Each frame is seen: those of VMs, and those of the gateway.
	sent := uint64(0)
	for _, p := range n.Switch().Ports() {
		sent += p.Stats().Sent
	}
	if s := e.mon.Stats(); s.Vsock == 0 || s.Frames == 0 || s.Frames > sent || s.Unread > 1<<20 {
		t.Errorf("%d frames were sent, %+v", sent, s)
	}
	bulky := false
	for _, f := range e.mon.Flows() {
		if f.SourceVM == "web" && f.DestinationVM == "db" && f.Bytes[1] >= bulk {
			bulky = true
			t.Logf("%d bytes in %d packets", f.Bytes[1], f.Packets[1])
		}
	}
	if !bulky && told[fmt.Sprintf("flow end web > db:%d", database)] == 0 {
		t.Errorf("no flow has the %d bytes that were sent", bulk)
	}
}
