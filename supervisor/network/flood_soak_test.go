//go:build soak

package network

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"warder/internal/testkvm"
	"warder/secmon/lan"
	"warder/supervisor"
	"warder/supervisor/declaration"
)

// TestFlood has sixteen small guests: four of them flood one that takes it and one that
// they may not reach, with what they may send and with what they may not. The others copy
// from each other meanwhile, one from the guest that is flooded. All that is copied is
// what was sent, and nobody but the flooders loses a frame to a rule.
func TestFlood(t *testing.T) {
	testkvm.Need(t)
	const guests, flooders, port = 16, 4, 5432
	dir := programDir(t)
	name := func(i int) string { return fmt.Sprintf("vm%d", i) }
	const victim, forbidden = flooders, flooders + 1
	var services []Service
	allow := []declaration.Allow{{From: declaration.List{"*"}, To: declaration.List{name(victim)}, Ports: declaration.List{"udp/9", fmt.Sprintf("tcp/%d", port)}}}
	for i := range guests {
		services = append(services, Service{Name: name(i), LAN: declaration.LAN{VLAN: "all"}})
		if i > forbidden {
			allow = append(allow, declaration.Allow{From: declaration.List{name(i)}, To: declaration.List{name((i-flooders+1)%(guests-flooders) + flooders)}, Ports: declaration.List{fmt.Sprintf("tcp/%d", port)}})
		}
	}
	n, err := New(Config{VLANs: []VLAN{{Name: "all", Network: netip.MustParsePrefix("10.1.0.0/24")}}, Allow: allow}, services, Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	vms := make([]*machine, guests)
	var all sync.WaitGroup
	slots := make(chan struct{}, 4) // at once: all would take each other's time
	for i := range guests {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			card, _ := n.Interface(name(i))
			vm, err := supervisor.StartVM(t.Context(), supervisor.Spec{
				Name: name(i), Memory: 128 << 20, Nets: []supervisor.Net{card}, Shares: []supervisor.Share{{Host: dir, Guest: "/mnt/test", ReadOnly: true}},
				BootTimeout: 10 * time.Minute, Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				didNotStart(t, name(i), err)
				return
			}
			t.Cleanup(func() { vm.Close() })
			m := &machine{t: t, name: name(i), vm: vm}
			if err := m.begin(); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
			vms[i] = m
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	address := func(i int) netip.Addr { return n.Port(name(i)).Config().Addresses[0] }
	for _, m := range vms[flooders:] {
		if got := m.ask("serve :%d", port); got != "serving" {
			t.Fatal(got)
		}
	}
	for _, m := range vms[:flooders] {
		for _, to := range []int{victim, forbidden} {
			if got := m.ask("flood %v %v", n.Port(name(to)).Config().MAC, address(to)); got != "flooding" {
				t.Fatal(got)
			}
		}
	}
	sum := bulkSum()
	for round := range 3 {
		for i := forbidden + 1; i < guests; i++ {
			to := (i-flooders+1)%(guests-flooders) + flooders
			if got := vms[i].ask("dial %v:%d 10m", address(to), port); got != sum {
				t.Errorf("round %d: %s from %s: %s", round, name(i), name(to), got)
			}
		}
	}
	for i := range guests {
		st := n.Port(name(i)).Stats()
		t.Logf("%s: %+v", name(i), st)
		refused := st.Lost[lan.Policy] + st.Lost[lan.SourceIP] + st.Lost[lan.Malformed]
		if flood := i < flooders; flood != (refused > 0) || flood && st.Received > st.Sent {
			t.Errorf("%s has lost %d frames to rules: %+v", name(i), refused, st)
		}
	}
	if got := n.Port(name(forbidden)).Stats().Received; got > 1000 {
		t.Errorf("the one that nobody may reach got %d frames", got)
	}
}
