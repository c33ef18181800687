package network

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"warder/supervisor/declaration"
)

// onLoopback is an address of this process alone, at which ports can be given.
func onLoopback(port int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:%d", 64|pid>>14&63, pid>>7&127, 1+pid&127, port)
}

// put puts a service on the LAN, and gives the addresses that were to be kept.
func put(t *testing.T, n *Network, s Service) (kept []netip.Addr, err error) {
	t.Helper()
	return kept, n.Put(s, func(a []netip.Addr) error { kept = slices.Clone(a); return nil })
}

// listened reports whether somebody listens, so that nobody else can.
func listened(address string) bool {
	l, err := net.Listen("tcp", address)
	if err == nil {
		l.Close()
	}
	return err != nil
}

// picture is what there is for whom, and what is allowed.
func picture(n *Network) string {
	var b strings.Builder
	st := n.Status()
	for _, p := range st.Ports {
		fmt.Fprintln(&b, p.Name, p.VLAN, p.MAC, p.Addresses, p.Published)
	}
	return b.String() + strings.Join(st.Rules, "\n")
}

func reached(n *Network, from string) string {
	var names []string
	for _, p := range n.Switch().Reachable(n.Port(from)) {
		names = append(names, p.Name())
	}
	return strings.Join(names, " ")
}

// A service that comes to a LAN that is up has what one has that was there from the start,
// keeps it when it is declared anew, and gives it back when it goes.
func TestPut(t *testing.T) {
	n, err := open(t, "10.1.0.0/29", "10.1.0.0/28")
	if err != nil {
		t.Fatal(err)
	}
	lone := Service{Name: "new", LAN: declaration.LAN{
		VLAN: "front", Publish: declaration.List{onLoopback(21400) + ":80", "127.0.0.1:0:81"},
		Allow: []declaration.Allow{
			{From: declaration.List{"db"}, Ports: declaration.List{"tcp/80"}}, {To: declaration.List{"cache"}, HTTP: &declaration.HTTP{Method: declaration.List{"GET"}}},
		},
	}}
	first, err := put(t, n, lone)
	if err != nil {
		t.Fatal(err)
	}
	if words(first) != "10.1.0.6 fd01::4" || !listened(onLoopback(21400)) {
		t.Errorf("it has %v", first)
	}
	if i, ok := n.Interface("new"); !ok || i.Port != n.Port("new") || words(i.Addresses) != "10.1.0.6/28 fd01::4/64" {
		t.Errorf("%+v", i)
	}
	if from, to := reached(n, "new"), reached(n, "db"); from != "gateway.front cache" || to != "gateway.front cache new" {
		t.Errorf("it reaches %s, db %s", from, to)
	}
	rules := n.Status().Rules
	if !slices.Contains(rules, "db -> new: tcp/80") || !slices.Contains(rules, "new -> cache: tcp/80, HTTP method GET") {
		t.Errorf("%q", rules)
	}
	published := func() (list []string) {
		for _, p := range n.Status().Ports {
			if p.Name == "new" {
				list = p.Published
			}
		}
		return list
	}
	was := published()

	// What the LAN as a whole allows is replaced without it.
	if err := n.SetAllow([]declaration.Allow{{From: declaration.List{"new"}, To: declaration.List{"web"}, Ports: declaration.List{"icmp"}}}); err != nil {
		t.Fatal(err)
	}
	if from, to := reached(n, "new"), reached(n, "db"); from != "gateway.front web cache" || to != "gateway.front new" {
		t.Errorf("it reaches %s, db %s", from, to)
	}

	// Declared anew it has the same addresses and ports, but for what it asks for.
	anew := lone
	anew.Allow, anew.OnDemand = nil, true
	if again, err := put(t, n, anew); err != nil || !slices.Equal(again, first) || !slices.Equal(published(), was) || reached(n, "db") != "gateway.front" {
		t.Errorf("it has %v, published %q, was %q, %v, db reaches %s", again, published(), was, err, reached(n, "db"))
	}
	anew.Address, anew.Publish = netip.MustParseAddr("10.1.0.9"), declaration.List{onLoopback(21401) + ":80"}
	if again, err := put(t, n, anew); err != nil || words(again) != "10.1.0.9 fd01::4" || listened(onLoopback(21400)) || !listened(onLoopback(21401)) {
		t.Errorf("it has %v, %v", again, err)
	}

	// What cannot be changes nothing.
	before := picture(n)
	change := func(says string, do func(s *Service)) {
		t.Helper()
		s := anew
		do(&s)
		if _, err := put(t, n, s); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	change("no service wep is on the LAN", func(s *Service) {
		s.Allow = []declaration.Allow{{From: declaration.List{"wep"}, Ports: declaration.List{"all"}}}
	})
	change("address 10.1.0.2 is that of db", func(s *Service) { s.Address = netip.MustParseAddr("10.1.0.2") })
	change("10.1.0.1 is not one for a service", func(s *Service) { s.Address = netip.MustParseAddr("10.1.0.1") })
	change(`there is no VLAN "rear"`, func(s *Service) { s.VLAN = "rear" })
	change("give 0 to 2", func(s *Service) { s.Priority = 3 })
	change("mirror: no service wep", func(s *Service) { s.LAN = declaration.LAN{Mirror: declaration.List{"wep"}} })
	change("by new: give another port", func(s *Service) { s.Name, s.Address = "other", netip.Addr{} })
	change("as in 127.0.0.1:8080:80", func(s *Service) { s.Publish = declaration.List{onLoopback(21402) + ":80", "80"} })
	full := errors.New("the journal is full")
	if err := n.Put(Service{Name: "new", LAN: declaration.LAN{VLAN: "back", Publish: declaration.List{onLoopback(21403) + ":80"}}}, func([]netip.Addr) error { return full }); !errors.Is(err, full) {
		t.Errorf("%v, want that %v", err, full)
	}
	if after := picture(n); after != before || listened(onLoopback(21402)) || listened(onLoopback(21403)) || !listened(onLoopback(21401)) {
		t.Errorf("it was\n%s, it is\n%s", before, after)
	}

	n.Remove("new")
	n.Remove("new")
	if _, ok := n.Interface("new"); ok || n.Port("new") != nil || listened(onLoopback(21401)) {
		t.Error("it is there still")
	}
	other := Service{Name: "other", LAN: declaration.LAN{VLAN: "front", Address: netip.MustParseAddr("10.1.0.9"), Publish: declaration.List{onLoopback(21401) + ":80"}}}
	if has, err := put(t, n, other); err != nil || words(has) != "10.1.0.9 fd01::4" {
		t.Errorf("what it had is not free: %v, %v", has, err)
	}
	for a := 6; ; a++ { // until the network is full
		if _, err := put(t, n, Service{Name: fmt.Sprint("s", a), LAN: declaration.LAN{VLAN: "front"}}); err != nil {
			if want := "no address of 10.1.0.0/28 is free: services and the gateway have all 14"; !strings.Contains(err.Error(), want) || a != 14 {
				t.Errorf("after %d: %v, want %s", a, err, want)
			}
			break
		}
	}
	var none *Network
	if err := none.Put(lone, nil); err == nil || !strings.Contains(err.Error(), "there is no LAN") {
		t.Error(err)
	}
	none.Remove("new")
}

// Addresses that a service had are kept for it until it comes, and given to others only
// that ask for them.
func TestKept(t *testing.T) {
	cfg := Config{VLANs: []VLAN{{Name: "front", Network: netip.MustParsePrefix("10.1.0.0/24")}, {Name: "back", Network: netip.MustParsePrefix("10.2.0.0/24")}}}
	at := netip.MustParseAddr
	kept := map[string][]netip.Addr{"a": {at("10.1.0.2"), at("10.2.0.3")}, "b": {at("10.1.0.4")}, "c": {at("10.9.0.1")}}
	asks := declaration.LAN{VLAN: "front", Address: at("10.1.0.4")}
	n, err := New(cfg, []Service{{Name: "web", LAN: declaration.LAN{VLAN: "front"}}, {Name: "db", LAN: asks}}, Options{Kept: kept})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if has := words(n.Port("web").Config().Addresses); has != "10.1.0.3" {
		t.Errorf("web has %s", has)
	}
	// The host's own file is looked at whole, whatever was before.
	asks.Allow = []declaration.Allow{{From: declaration.List{"gone"}, Ports: declaration.List{"icmp"}}}
	if _, err := New(cfg, []Service{{Name: "a", LAN: asks}}, Options{Kept: kept}); err == nil || !strings.Contains(err.Error(), "no service gone") {
		t.Error(err)
	}
	for _, c := range []struct {
		name, want string
		lan        declaration.LAN
	}{
		{"d", "10.1.0.5", declaration.LAN{VLAN: "front"}},
		{"b", "10.1.0.6", declaration.LAN{VLAN: "front"}},
		{"a", "10.1.0.2 10.2.0.3", declaration.LAN{VLAN: "front", Trunk: declaration.List{"back"}, Allow: []declaration.Allow{{From: declaration.List{"c", "gone"}, Ports: declaration.List{"icmp"}}}}},
		{"c", "10.2.0.2", declaration.LAN{VLAN: "back"}},
	} {
		if has, err := put(t, n, Service{Name: c.name, LAN: c.lan}); err != nil || words(has) != c.want {
			t.Errorf("%s has %v, want %s, %v", c.name, has, c.want, err)
		}
	}
	// Whom one names that was declared before may come later, or never; whom it names now may not.
	if got := reached(n, "c"); got != "gateway.back a" {
		t.Errorf("c reaches %s", got)
	}
	if _, err := put(t, n, Service{Name: "a", LAN: declaration.LAN{VLAN: "front", Allow: []declaration.Allow{{From: declaration.List{"gone"}, Ports: declaration.List{"icmp"}}}}}); err == nil || !strings.Contains(err.Error(), "no service gone") {
		t.Error(err)
	}
}

// member is what the model knows of a service.
type member struct {
	lan  declaration.LAN
	has  []netip.Addr
	rule bool
}

// TestPutModel does thousands of things to a LAN of few addresses and ports, a fifth of which
// fail. After each of them it is what a plain look says.
func TestPutModel(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 7))
	cfg := Config{VLANs: []VLAN{
		{Name: "front", Network: netip.MustParsePrefix("10.1.0.0/29")}, {Name: "back", Network: netip.MustParsePrefix("10.2.0.0/28")},
	}}
	n, err := New(cfg, []Service{{Name: "fixed", LAN: declaration.LAN{VLAN: "front"}}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	// What others ask of it meanwhile is answered.
	ask := make(chan struct{}, 1)
	var asking sync.WaitGroup
	asking.Go(func() {
		for range ask {
			n.Status()
			n.Interface("s1")
			if err := n.SetEgress(nil); err != nil {
				t.Error(err)
			}
		}
	})
	defer asking.Wait()
	defer close(ask)

	model := map[string]*member{"fixed": {has: n.Port("fixed").Config().Addresses}}
	owner := func(a netip.Addr) string {
		for name, m := range model {
			if slices.Contains(m.has, a) {
				return name
			}
		}
		return ""
	}
	publisher := func(port string) string {
		for name, m := range model {
			if slices.Contains(m.lan.Publish, port) {
				return name
			}
		}
		return ""
	}
	free := func(network netip.Prefix, own string) bool {
		for a := network.Addr().Next().Next(); network.Contains(a.Next()); a = a.Next() {
			if o := owner(a); o == "" || o == own {
				return true
			}
		}
		return false
	}
	full := errors.New("the journal is full")
	outcomes := make(map[string]int)
	steps := 3000
	if testing.Short() {
		steps = 500
	}
	for step := range steps {
		select {
		case ask <- struct{}{}:
		default:
		}
		name := fmt.Sprint("s", r.IntN(8))
		did := "remove"
		if r.IntN(3) == 0 {
			n.Remove(name)
			delete(model, name)
		} else {
			v := cfg.VLANs[r.IntN(2)]
			lan := declaration.LAN{VLAN: v.Name}
			if r.IntN(3) == 0 {
				lan.Address = v.Network.Addr()
				for range 2 + r.IntN(5) {
					lan.Address = lan.Address.Next()
				}
			}
			for p := range 3 {
				if r.IntN(3) == 0 {
					lan.Publish = append(lan.Publish, fmt.Sprint(onLoopback(21500+p), ":80"))
				}
			}
			peer := fmt.Sprint("s", r.IntN(8))
			rule := r.IntN(3) == 0
			if rule {
				lan.Allow = []declaration.Allow{{To: declaration.List{peer}, Ports: declaration.List{"all"}}}
			}
			fails := r.IntN(10) == 0
			var has []netip.Addr
			err := n.Put(Service{Name: name, LAN: lan}, func(a []netip.Addr) error {
				if fails {
					return full
				}
				has = slices.Clone(a)
				return nil
			})
			old := model[name]
			want := ""
			switch {
			case lan.Address.IsValid() && owner(lan.Address) != "" && owner(lan.Address) != name:
				want = fmt.Sprintf("address %v is that of %s", lan.Address, owner(lan.Address))
			case !lan.Address.IsValid() && !free(v.Network, name):
				want = "is free"
			}
			for _, p := range lan.Publish {
				if o := publisher(p); want == "" && o != "" && o != name {
					want = "by " + o
				}
			}
			if want == "" && rule && peer != name && model[peer] == nil {
				want = "no service " + peer
			}
			if want == "" && fails {
				want = full.Error()
			}
			switch {
			case want != "":
				did = "refused"
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("step %d: %s %+v: %v, want %q", step, name, lan, err, want)
				}
			case err != nil || len(has) != 1 || !v.Network.Contains(has[0]) || lan.Address.IsValid() && has[0] != lan.Address:
				t.Fatalf("step %d: %s %+v: has %v, %v", step, name, lan, has, err)
			case old != nil && !lan.Address.IsValid() && v.Network.Contains(old.has[0]) && has[0] != old.has[0]:
				t.Fatalf("step %d: %s had %v, and has %v", step, name, old.has, has)
			default:
				did = "put"
				if old != nil {
					did = "put again"
				}
				model[name] = &member{lan, has, rule}
			}
		}
		outcomes[did]++
		seen := make(map[netip.Addr]bool)
		rules := 0
		for name, m := range model {
			p := n.Port(name)
			if p == nil || !slices.Equal(p.Config().Addresses, m.has) || seen[m.has[0]] {
				t.Fatalf("step %d, %s: %s has %v, its port %v", step, did, name, m.has, p)
			}
			seen[m.has[0]] = true
			if m.rule {
				rules++
			}
		}
		if st := n.Status(); len(st.Ports) != len(model)+2 || len(st.Rules) != rules {
			t.Fatalf("step %d, %s: %d ports of %d services, %d rules of %d", step, did, len(st.Ports), len(model), len(st.Rules), rules)
		}
		for p := range 3 {
			if at := onLoopback(21500 + p); listened(at) != (publisher(at+":80") != "") {
				t.Fatalf("step %d, %s: at %s somebody listens: %v", step, did, at, listened(at))
			}
		}
	}
	t.Log(outcomes)
	for _, did := range []string{"put", "put again", "refused", "remove"} {
		if outcomes[did] < steps/20 {
			t.Errorf("%q happened %d times: this tried little", did, outcomes[did])
		}
	}
}
