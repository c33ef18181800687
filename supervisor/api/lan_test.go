package api

import (
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/supervisor/declaration"
	"warder/supervisor/network"
)

// TestLAN looks at a LAN from another process's side, and changes it.
func TestLAN(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "warder")
	ctx := t.Context()
	if all, err := LANs(ctx, dir); err != nil || len(all) != 0 {
		t.Fatalf("%v, %v", all, err)
	}
	if _, err := FindLAN(ctx, dir, ""); err == nil || !strings.Contains(err.Error(), "warder host") {
		t.Errorf("without any: %v", err)
	}
	s, err := Listen(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if all, err := LANs(ctx, dir); err != nil || len(all) != 0 {
		t.Fatalf("a process without a LAN: %v, %v", all, err)
	}
	n, err := network.New(network.Config{
		VLANs: []network.VLAN{{Name: "front", Network: netip.MustParsePrefix("10.1.0.0/24")}},
		Allow: []declaration.Allow{{From: declaration.List{"a"}, To: declaration.List{"b"}, Ports: declaration.List{"tcp/80"}}},
	}, []network.Service{{Name: "a", LAN: declaration.LAN{VLAN: "front"}}, {Name: "b", LAN: declaration.LAN{VLAN: "front"}}, {Name: "m", LAN: declaration.LAN{Mirror: declaration.List{"*"}}}}, network.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	s.ServeLAN(n)
	l, err := FindLAN(ctx, dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.PID == 0 || len(l.Ports) != 4 {
		t.Errorf("%+v", l.Status)
	}
	want := n.Status()
	want.PID = l.PID
	if d := cmp.Diff(want, l.Status, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if _, err := FindLAN(ctx, dir, "c"); err == nil || !strings.Contains(err.Error(), "no service c") {
		t.Errorf("a service that is not there: %v", err)
	}

	off, on, rate := true, false, uint64(1000)
	if err := l.ChangePort(ctx, "a", PortChange{Isolated: &off, Rate: &rate}); err != nil || !n.Port("a").IsIsolated() {
		t.Errorf("isolated: %v, %v", n.Port("a").IsIsolated(), err)
	}
	if err := l.ChangePort(ctx, "a", PortChange{Rate: &rate}); err != nil || !n.Port("a").IsIsolated() {
		t.Errorf("what was not said has changed: %v", err)
	}
	if err := l.ChangePort(ctx, "a", PortChange{Isolated: &on}); err != nil || n.Port("a").IsIsolated() {
		t.Errorf("restored: %v", err)
	}
	if err := l.ChangePort(ctx, "gateway.front", PortChange{Isolated: &off}); !isNotFound(err) {
		t.Errorf("the gateway's port: %v", err)
	}
	for _, c := range []struct{ to, says string }{{"m", ""}, {"b", "no mirror port"}, {"x", "no service x"}} {
		if err := l.ChangePort(ctx, "a", PortChange{Diverted: &c.to}); (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("diverted to %s: %v", c.to, err)
		}
	}
	if to := n.Port("a").Diverted(); to == nil || to.Name() != "m" {
		t.Errorf("a is diverted to %v", to)
	}
	if err := l.ChangeFlow(ctx, 12345, FlowChange{Diverted: "m"}); !isNotFound(err) {
		t.Errorf("a flow that there is not: %v", err)
	}
	if err := l.SetEgress(ctx, map[string][]declaration.Egress{"a": {{To: declaration.List{"example.org"}}}}); err != nil {
		t.Error(err)
	}
	if err := l.SetEgress(ctx, map[string][]declaration.Egress{"a": {{To: declaration.List{"*"}}}}); err == nil || !strings.Contains(err.Error(), "name") {
		t.Errorf("a mistake: %v", err)
	}
	if err := l.SetAllow(ctx, []declaration.Allow{{From: declaration.List{"b"}, To: declaration.List{"*"}, Ports: declaration.List{"icmp"}}}); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff([]string{"b -> *: icmp"}, n.Status().Rules); d != "" {
		t.Error(d)
	}
	if err := l.SetAllow(ctx, []declaration.Allow{{From: declaration.List{"x"}, To: declaration.List{"*"}, Ports: declaration.List{"icmp"}}}); err == nil || !strings.Contains(err.Error(), "no service x") {
		t.Errorf("a mistake: %v", err)
	}
}
