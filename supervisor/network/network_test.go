package network

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"warder/supervisor/declaration"
)

const example = `
lan:
  vlans:
    - {name: front, network: 10.1.0.0/29, network6: "fd01::/64"}
    - {name: back, id: 20, network: 10.2.0.0/24}
  allow:
    - {from: web, to: [db, cache], ports: [tcp/5432, icmp]}
    - {from: '*', to: cache, ports: tcp/8000-8010}
    - {from: web, to: db, http: {method: [GET, POST], host: db, path: /v1/*}}
    - {from: web, to: db, dns: '*.example.org'}
services:
  - {name: web, vlan: front, egress: [{to: [deb.example.org, 203.0.113.0/24], ports: [tcp/443, udp/123]}], publish: "127.0.0.1:0:80"}
  - {name: db, vlan: front, address: 10.1.0.2, rate: 10MB, priority: 1, isolated: true}
  - {name: cache, vlan: front, dhcp: true}
  - {name: log, vlan: back}
  - {name: router, vlan: back, trunk: [front]}
  - {name: ids, mirror: [web, log]}
`

type file struct {
	LAN      Config `yaml:"lan"`
	Services []struct {
		Name            string `yaml:"name"`
		declaration.LAN `yaml:",inline"`
	} `yaml:"services"`
}

// open brings up the LAN of a file that is example with changes.
func open(t *testing.T, change ...string) (*Network, error) {
	t.Helper()
	var f file
	if err := yaml.UnmarshalWithOptions([]byte(strings.NewReplacer(change...).Replace(example)), &f, yaml.Strict()); err != nil {
		return nil, err
	}
	var services []Service
	for _, s := range f.Services {
		services = append(services, Service{Name: s.Name, LAN: s.LAN})
	}
	n, err := New(f.LAN, services, Options{})
	if err == nil {
		t.Cleanup(func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return n, err
}

func TestNetwork(t *testing.T) {
	n, err := open(t)
	if err != nil {
		t.Fatal(err)
	}
	type given struct {
		addresses, gateways string
		dhcp                bool
	}
	got := map[string]given{}
	for _, name := range []string{"web", "db", "cache", "log", "router", "ids"} {
		i, ok := n.Interface(name)
		if !ok || i.Port == nil || i.MAC.Unset() {
			t.Fatalf("%s: %+v", name, i)
		}
		got[name] = given{words(i.Addresses), words(i.Gateways), i.DHCP}
	}
	want := map[string]given{
		"web": {"10.1.0.3/29 fd01::2/64", "10.1.0.1 fd01::1", false}, "db": {"10.1.0.2/29 fd01::3/64", "10.1.0.1 fd01::1", false},
		"cache": {"fd01::4a8:b3ff:feb7:184b/64", "fd01::1", true}, "log": {"10.2.0.2/24", "10.2.0.1", false},
		"router": {"10.2.0.3/24", "10.2.0.1", false}, "ids": {},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(given{})); d != "" {
		t.Errorf("interfaces (-want +got):\n%s", d)
	}
	if _, ok := n.Interface("stranger"); ok || n.Port("stranger") != nil {
		t.Error("a service that is not on the LAN has an interface")
	}
	st := n.Status()
	if len(st.Ports) != 8 || len(st.VLANs) != 2 || st.VLANs[1].ID != 20 {
		t.Errorf("%+v", st)
	}
	for _, p := range st.Ports {
		if p.Name == "router" && (words(p.Addresses) != "10.2.0.3 10.1.0.5 fd01::30f8:f7ff:fe2a:cb9f" || p.VLAN != "back" || fmt.Sprint(p.Trunk) != "[front]") || p.Name == "ids" && (fmt.Sprint(p.Mirror) != "[web log]" || len(p.Addresses) > 0) {
			t.Errorf("%+v", p)
		}
		if p.Name == "web" && (len(p.Published) != 1 || !strings.HasPrefix(p.Published[0], "127.0.0.1:") || !strings.HasSuffix(p.Published[0], ":80")) {
			t.Errorf("%+v", p)
		}
	}
	if d := cmp.Diff([]string{"web -> db,cache: tcp/5432, icmp", "* -> cache: tcp/8000-8010", "web -> db: tcp/80, HTTP method GET|POST host db path /v1/*", "web -> db: udp/53, tcp/53, DNS *.example.org"}, st.Rules); d != "" {
		t.Error(d)
	}
	reach := func(from string) (names []string) {
		for _, p := range n.Switch().Reachable(n.Port(from)) {
			names = append(names, p.Name())
		}
		return names
	}
	if d := cmp.Diff([]string{"gateway.front", "db", "cache"}, reach("web")); d != "" {
		t.Error(d)
	}
	if err := n.SetAllow([]declaration.Allow{{From: declaration.List{"db"}, To: declaration.List{"web"}, Ports: declaration.List{"all"}}}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"gateway.front"}, reach("web")); d != "" {
		t.Error(d)
	}
	if err := n.SetAllow([]declaration.Allow{{From: declaration.List{"db"}, To: declaration.List{"nobody"}, Ports: declaration.List{"all"}}}); err == nil {
		t.Error("a service that is not there may be reached")
	}
	if d := cmp.Diff([]string{"gateway.front", "web"}, reach("db")); d != "" {
		t.Errorf("what was in force before a mistake: %s", d)
	}
	if err := n.Divert("web", "ids"); err != nil || n.Port("web").Diverted() != n.Port("ids") {
		t.Errorf("diverted: %v", err)
	}
	if n.Divert("web", "db") == nil || n.Divert("web", "nobody") == nil || n.Port("web").Diverted() != n.Port("ids") {
		t.Error("diverted to what is no mirror port")
	}
	if err := n.SetEgress(map[string][]declaration.Egress{"nobody": nil}); err == nil {
		t.Error("a service that is not there may go outside")
	}
	if owner := n.Switch().Owner(20, netip.MustParseAddr("10.2.0.2")); owner != n.Port("log") {
		t.Errorf("10.2.0.2 is of %v", owner)
	}
}

func words[T interface{ String() string }](list []T) string {
	var w []string
	for _, v := range list {
		w = append(w, v.String())
	}
	return strings.Join(w, " ")
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct{ old, new, says string }{
		{"tcp/5432", "tcp/0", `ports "tcp/0"`},
		{"tcp/5432", "5432", "give tcp/80"},
		{"tcp/5432", "icmp/8", "give tcp/80"},
		{"tcp/8000-8010", "tcp/8010-8000", "give tcp/80"},
		{"from: web", "from: wep", "no service wep"},
		{"from: web, ", "", "give from, to and ports"},
		{"path: /v1/*", "path: v1", "give one that begins with /"},
		{"GET, POST", "get", "give one in capital letters"},
		{"host: db", "host: db:80", "give one as example.org"},
		{"http: {", "ports: udp/80, http: {", "give the ports of TCP at which HTTP is spoken"},
		{"dns: '*.example.org'", "dns: '*'", "give one as example.org"},
		{"id: 20", "id: 1", "another has its name or id"},
		{"id: 20", "id: 4095", "give 1 to 4094"},
		{"id: 20", "uplink: a-name-that-is-too-long", "a name has 1 to 15 bytes"},
		{"from: web", "from: uplink.back", "no service uplink.back"},
		{"10.2.0.0/24", "10.1.0.0/16", "overlaps"},
		{"10.2.0.0/24", "fd02::/64", "give one of IPv4"},
		{"vlan: back", "vlan: rear", `log: there is no VLAN "rear"`},
		{"address: 10.1.0.2", "address: 10.1.0.1", "db: address 10.1.0.1 is not one for a service"},
		{"address: 10.1.0.2", "address: 10.1.0.7", "not one for a service"},
		{"address: 10.1.0.2", "address: 10.2.0.2", "not one for a service"},
		{"dhcp: true", "address: 10.1.0.2", "is that of db"},
		{"10.1.0.0/29", "10.1.0.0/30", "no address of 10.1.0.0/30 is free"},
		{"rate: 10MB", "rate: fast", "as in 10MB"},
		{"priority: 1", "priority: 3", "give 0 to 2"},
		{"127.0.0.1:0:80", "8080:80", "as in 127.0.0.1:8080:80"},
		{"deb.example.org", "'*'", "name"},
		{"udp/123", "icmp", "only TCP and UDP go outside"},
		{"isolated: true", "isolate: true", "isolate"},
		{"isolated: true", "allow: [{from: wep, ports: all}]", "db: allow 1: no service wep"},
		{"isolated: true", "allow: [{to: web, ports: 80}]", "db: allow 1: ports"},
		{"trunk: [front]", "trunk: [rear]", `router: trunk: there is no VLAN "rear"`},
		{"trunk: [front]", "trunk: [back]", "each once"},
		{"vlan: back, trunk", "dhcp: true, trunk", "give one as vlan"},
		{"mirror: [web, log]", "mirror: wep", "ids: mirror: no service wep"},
		{"mirror: [web, log]", "mirror: web, vlan: front", "give no other part of lan"},
	} {
		if _, err := open(t, c.old, c.new); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s in place of %s: error %v, want one that says %q", c.new, c.old, err, c.says)
		}
	}
}

// Requests are read between services: the gateway answers for nobody behind an uplink.
func TestNoRequestsOfUplinks(t *testing.T) {
	known := func(string) bool { return true }
	for _, ends := range [][2]declaration.List{{{"web"}, {"uplink.back"}}, {{"uplink.back"}, {"web"}}} {
		a := declaration.Allow{From: ends[0], To: ends[1], DNS: declaration.List{"example.org"}}
		if _, err := rules([]declaration.Allow{a}, known); err == nil || !strings.Contains(err.Error(), "give ports alone for uplink.back") {
			t.Errorf("%v: %v", a, err)
		}
		a.DNS, a.Ports = nil, declaration.List{"udp/53"}
		if _, err := rules([]declaration.Allow{a}, known); err != nil {
			t.Error(err)
		}
	}
}
