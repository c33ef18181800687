package main

import (
	"net/netip"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/google/go-cmp/cmp"

	"warder/secmon/lan/gateway"
	"warder/supervisor/network"
)

func TestPrintLAN(t *testing.T) {
	s := network.Status{
		PID:   42,
		VLANs: []network.VLANStatus{{Name: "front", ID: 1, Networks: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd01::/64")}, Gateway: gateway.Stats{Leases: 2, Resolved: 3, Opened: 4, Refused: 5, NameRefused: 6}}},
		Ports: []network.PortStatus{
			{Name: "web", VLAN: "front", Addresses: []netip.Addr{netip.MustParseAddr("10.1.0.2")}, SentBytes: 2048, RecvBytes: 1 << 20, Flows: 7, Lost: map[string]uint64{"policy": 8, "full": 9}, Published: []string{"127.0.0.1:8080:80"}},
			{Name: "db", VLAN: "front", Isolated: true},
		},
		Rules: []string{"web -> db: tcp/5432"},
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	printLAN(w, s)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	want := `LAN of process 42

VLAN   ID  NETWORKS               LEASES  NAMES  OUT  REFUSED
front  1   10.1.0.0/24 fd01::/64  2       3      4    11

PORT           VLAN   ADDRESSES  SENT     RECEIVED  FLOWS  PUBLISHED          LOST
web            front  10.1.0.2   2.0 KiB  1.0 MiB   7      127.0.0.1:8080:80  full 9, policy 8
db (isolated)  front             0 B      0 B       0                         

ALLOWED
web -> db: tcp/5432
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
