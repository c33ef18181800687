package network

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"warder/secmon/event"
	"warder/secmon/lan/monitor"
	"warder/secmon/pattern"
	"warder/secmon/pattern/sigma"
	"warder/secmon/share"
	"warder/secmon/watch"
)

// ear is a watch, to which the monitors of a LAN and of shares report.
type ear struct {
	mon    *monitor.Monitor
	shares *share.Monitor
	watch  *watch.Watch
}

func newEar(t *testing.T) *ear {
	t.Helper()
	rules, err := sigma.Parse("network.yaml", []byte(networkRules), sigma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	library, err := pattern.NewLibrary(rules)
	if err != nil {
		t.Fatal(err)
	}
	e := &ear{}
	if e.watch, err = watch.New(library); err != nil {
		t.Fatal(err)
	}
	e.mon = monitor.New(monitor.Config{Sink: e.watch.Report})
	e.shares = share.New(share.Config{Sink: e.watch.Report, Content: e.watch.Shared})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { e.watch.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return e
}

// networkRules are about a file on a share, for which nothing is trapped, and about flows that
// are opened in one VM and taken in another.
const networkRules = `title: Script that changes a kernel parameter, put together on a share
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
---
title: Opened
id: 2b1b8e0e-5a0f-4a38-8f37-0b8a6e0f6d12
name: opened
logsource: {product: warder, service: flow}
detection: {s: {event.action: connect, destination.port: 5432}, condition: s}
---
title: Taken
id: 2b1b8e0e-5a0f-4a38-8f37-0b8a6e0f6d13
name: taken
logsource: {product: warder, service: flow}
detection: {s: {event.action: accept}, condition: s}
---
title: Datagrams
id: 2b1b8e0e-5a0f-4a38-8f37-0b8a6e0f6d14
logsource: {product: warder, service: flow}
detection: {s: {event.action: [send, receive], destination.port: 1}, condition: s}
---
title: Followed from one VM to another
id: 2b1b8e0e-5a0f-4a38-8f37-0b8a6e0f6d15
level: high
correlation:
    type: temporal
    rules: [opened, taken]
    group-by: [warder.flow]
    timespan: 10m
`

// told are the events since the last call.
func (e *ear) told(t *testing.T) (events []event.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, q := range []*event.Queue{e.watch.Events, e.watch.Alerts} {
		const last = "the last one"
		q.Put(event.Event{Kind: event.Lifecycle, Message: last})
		for {
			ev, err := q.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if ev.Message == last {
				break
			}
			events = append(events, ev)
		}
	}
	return events
}

// heard holds what was told of TestVMs against what was done there, with a port of
// the database's and one outside.
func (e *ear) heard(t *testing.T, n *Network, database, outside int) {
	t.Helper()
	e.mon.Advance(time.Now().UnixNano())
	told := make(map[string]int)
	flows := make(map[uint64]map[string]bool) // what was done with each
	events := e.told(t)
	for i := range events {
		ev := &events[i]
		if x := ev.Net; x != nil && ev.Kind == event.Flow && x.Flow != 0 {
			if flows[x.Flow] == nil {
				flows[x.Flow] = make(map[string]bool)
			}
			flows[x.Flow][ev.Action+" "+ev.VM] = true
		}
		s := fmt.Sprintf("%s %s %s", ev.Kind, ev.Action, ev.VM)
		if x := ev.Net; x != nil && x.DestinationVM != "" {
			s += " > " + x.DestinationVM
		}
		if x := ev.Net; x != nil && x.Transport == "tcp" {
			s += fmt.Sprintf(":%d", x.Destination.Port())
		}
		if x := ev.Net; x != nil && x.Transport == event.Vsock {
			s += fmt.Sprintf(" by vsock to %v", x.Vsock[1])
			if ev.Action == event.Began {
				s += " by " + ev.Process.Name
			}
		}
		if x := ev.Net; x != nil && x.Transport == event.Share {
			s += fmt.Sprintf(": %s %d+%d", ev.Call.File.Inner, ev.Call.Offset, ev.Call.Size)
		}
		if ev.Finding != nil {
			s = fmt.Sprintf("alert %s %v", ev.Finding.RuleTitle, slices.Sorted(slices.Values(ev.Finding.VMs)))
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
		"flow start web by vsock to 2:1024", "flow start db by vsock to 2:1024", fmt.Sprintf("flow start web by vsock to 2:%d by program", rpcPort), fmt.Sprintf("packet http-request web by vsock to 2:%d /rpc/pay", rpcPort),
		"packet file web > db: /script 0+12", "packet file other > web: /script ", "packet file web > other: /script ", "alert Script that changes a kernel parameter, put together on a share [db other web]", "alert Followed from one VM to another [db web]",
		"anomaly request-refused web > db:8000 /admin", "anomaly request-refused db  undeclared.example.org", "anomaly lateral-movement web > db:81", "anomaly mac-spoofing web", "anomaly mac-spoofing other", "anomaly vlan-hopping web", "anomaly vlan-hopping other",
		"anomaly malformed web", "anomaly malformed other", "anomaly nd-spoofing web", "anomaly router-spoofing web", "anomaly dhcp-spoofing other",
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
		if strings.HasPrefix(s, "anomaly malformed db") || strings.HasPrefix(s, "anomaly port-scan") || strings.HasPrefix(s, "anomaly beacon") || strings.HasPrefix(s, "anomaly wrong-port") {
			t.Errorf("nobody did that: %s", s)
		}
	}
	for _, want := range [][]string{{"start web", "connect web", "accept db", "send db", "receive web"}, {"start web", "send web", "receive db", "send db", "receive web"}} {
		if !slices.ContainsFunc(slices.Collect(maps.Values(flows)), func(did map[string]bool) bool {
			return !slices.ContainsFunc(want, func(s string) bool { return !did[s] })
		}) {
			t.Errorf("no one flow has %q: %v", want, flows)
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
