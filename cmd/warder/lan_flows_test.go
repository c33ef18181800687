package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"warder/secmon/lan/monitor"
)

func TestBusiest(t *testing.T) {
	flow := func(id uint64, begun int64, sent, got uint64) monitor.Flow {
		return monitor.Flow{
			ID: id, VLAN: 1, Transport: "tcp", Begun: time.Unix(0, begun), Bytes: [2]uint64{sent, got}, SourceVM: "a\x1b[31m",
			Source: netip.MustParseAddrPort("10.0.0.1:1"), Destination: netip.MustParseAddrPort("10.0.0.2:80"),
		}
	}
	before := []monitor.Flow{flow(1, 1, 100, 100), flow(2, 1, 1000, 0), flow(3, 1, 5000, 0)}
	now := []monitor.Flow{flow(1, 1, 300, 200), flow(2, 1, 1000, 0), flow(3, 2, 4000, 2048)} // 3 is another one
	list := busiest(before, now, 2*time.Second)
	if len(list) != 2 || list[0].ID != 3 || list[0].Rate != [2]float64{2000, 1024} || list[1].ID != 1 || list[1].Rate != [2]float64{100, 50} {
		t.Fatalf("%+v", list)
	}
	var out bytes.Buffer
	f := topFlags{lanFlags: lanFlags{output: "text"}}
	if err := f.print(&out, list); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[1], "a?[31m 10.0.0.1:1  10.0.0.2:80  -       2.0 KiB/s  1.0 KiB/s") {
		t.Errorf("%s", out.String())
	}
}

func TestUnwatched(t *testing.T) {
	if s := unwatched(monitor.Stats{Frames: 7}); s != "" {
		t.Errorf("%q where nothing is missing", s)
	}
	if s := unwatched(monitor.Stats{Evicted: 1, Held: 2}); s != "not seen whole: 1 flow pushed out, 0 streams given up, 2 events not told\n" {
		t.Errorf("%q", s)
	}
}
