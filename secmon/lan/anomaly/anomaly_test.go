package anomaly_test

import (
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"warder/secmon/lan/anomaly"
	"warder/secmon/lan/packet"
)

const second = int64(time.Second)

func host(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

// actions are what findings are called.
func actions(found []anomaly.Finding) (names []string) {
	for _, f := range found {
		names = append(names, f.Action)
	}
	return names
}

func TestScans(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(m *anomaly.Machine) []anomaly.Finding
		want []string
	}{
		"nmap -F of one host": {func(m *anomaly.Machine) (all []anomaly.Finding) {
			for i := range 100 {
				all = append(all, m.Connects(1+int64(i)*second/50, packet.TCP, host(9), uint16(1+i*10))...)
			}
			return all
		}, []string{anomaly.PortScan}},
		"one port a minute": {func(m *anomaly.Machine) (all []anomaly.Finding) {
			for i := range 55 {
				all = append(all, m.Connects(1+int64(i)*60*second, packet.TCP, host(9), uint16(1+i))...)
			}
			return all
		}, []string{anomaly.PortScan}},
		"UDP services": {func(m *anomaly.Machine) (all []anomaly.Finding) {
			for i := range 30 {
				all = append(all, m.Connects(1+int64(i), packet.UDP, host(9), uint16(100+i))...)
			}
			return all
		}, []string{anomaly.PortScan}},
		"SSH of a whole network": {func(m *anomaly.Machine) (all []anomaly.Finding) {
			for i := range 254 {
				all = append(all, m.Connects(1+int64(i)*second/10, packet.TCP, host(i), 22)...)
			}
			return all
		}, []string{anomaly.HostScan}},
		"a ping sweep": {func(m *anomaly.Machine) (all []anomaly.Finding) {
			for i := range 30 {
				all = append(all, m.Connects(1+int64(i), packet.ICMP, host(i), uint16(i))...)
			}
			return all
		}, []string{anomaly.HostScan}},
		"an ARP sweep, twice within ten minutes, then later": {func(m *anomaly.Machine) (all []anomaly.Finding) {
			for _, start := range []int64{1, 300, 900} {
				for i := range 30 {
					all = append(all, m.Asks(start*second+int64(i), host(i))...)
				}
			}
			return all
		}, []string{anomaly.HostScan, anomaly.HostScan}},
		"a client that connects all the time": {func(m *anomaly.Machine) (all []anomaly.Finding) {
			rnd := rand.New(rand.NewPCG(1, 1))
			at := int64(1)
			for range 5000 {
				at += int64(rnd.ExpFloat64() * float64(second))
				all = append(all, m.Connects(at, packet.TCP, host(rnd.IntN(5)), []uint16{80, 443, 5432, 6379}[rnd.IntN(4)])...)
			}
			return all
		}, nil},
		"a resolver's answers that are seen first": {func(m *anomaly.Machine) (all []anomaly.Finding) {
			for i := range 200 {
				all = append(all, m.Connects(1+int64(i), packet.UDP, host(9), uint16(33000+i*7))...)
			}
			return all
		}, nil},
		"19 ports in a minute, again and again": {func(m *anomaly.Machine) (all []anomaly.Finding) {
			for i := range 190 {
				all = append(all, m.Connects(1+int64(i)*second, packet.TCP, host(9), uint16(i%19))...)
			}
			return all
		}, nil},
		"multicast": {func(m *anomaly.Machine) (all []anomaly.Finding) {
			for i := range 100 {
				all = append(all, m.Connects(1+int64(i), packet.UDP, netip.AddrFrom4([4]byte{224, 0, 0, byte(i)}), 5353)...)
			}
			return all
		}, nil},
	} {
		if got := actions(c.do(anomaly.NewMachine())); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestBeacons(t *testing.T) {
	for name, c := range map[string]struct {
		next func(r *rand.Rand) float64 // seconds to the next connection
		want bool
	}{
		"every minute":                  {func(*rand.Rand) float64 { return 60 }, true},
		"every minute, a fifth jitter":  {func(r *rand.Rand) float64 { return 60 * (0.8 + 0.4*r.Float64()) }, true},
		"a hiccup among them":           {func(r *rand.Rand) float64 { return 60 * float64(1+r.IntN(10)/9) }, true},
		"every second":                  {func(*rand.Rand) float64 { return 1.5 }, false},
		"a person":                      {func(r *rand.Rand) float64 { return 60 * r.ExpFloat64() }, false},
		"bursts of a page":              {func(r *rand.Rand) float64 { return []float64{0.1, 0.1, 0.1, 300}[r.IntN(4)] * r.ExpFloat64() }, false},
		"anything between 10 and 300 s": {func(r *rand.Rand) float64 { return 10 + 290*r.Float64() }, false},
	} {
		r := rand.New(rand.NewPCG(5, 6))
		m := anomaly.NewMachine()
		at, n := second, 0
		for range 40 {
			n += len(m.Connects(at, packet.TCP, host(1), 443))
			at += int64(c.next(r) * float64(second))
		}
		if (n > 0) != c.want {
			t.Errorf("%s: %d findings", name, n)
		}
	}
}

func TestTunnels(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	bytes := func(n int) []byte {
		p := make([]byte, n)
		for i := range p {
			p[i] = byte(rnd.Uint32())
		}
		return p
	}
	words := strings.Fields("mail www api cdn static login assets shop images news video search status docs blog wiki")
	for name, c := range map[string]struct {
		ask   func(i int) string
		every float64 // seconds
		want  bool
	}{
		"iodine": {func(int) string {
			s := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(bytes(110)))
			return s[:60] + "." + s[60:120] + "." + s[120:] + ".t.example.org"
		}, 0.1, true},
		"dnscat2":             {func(int) string { return hex.EncodeToString(bytes(20)) + ".example.co.uk" }, 1, true},
		"a slow one":          {func(int) string { return hex.EncodeToString(bytes(28)) + ".example.org" }, 20, true},
		"one name":            {func(int) string { return hex.EncodeToString(make([]byte, 30)) + ".example.org" }, 0.1, false},
		"a browser":           {func(i int) string { return words[rnd.IntN(len(words))] + fmt.Sprintf(".site%d.com", rnd.IntN(50)) }, 0.2, false},
		"a block list":        {func(i int) string { return fmt.Sprintf("%d.%d.113.203.zen.spamhaus.org", i%256, i%7) }, 0.2, false},
		"reverse lookups":     {func(i int) string { return fmt.Sprintf("%d.2.0.192.in-addr.arpa", i%256) }, 0.1, false},
		"a content network":   {func(i int) string { return hex.EncodeToString(bytes(16)) + ".cdn.example.net" }, 10, false},
		"services of cluster": {func(i int) string { return words[i%16] + "-service-production.default.svc.cluster.local" }, 0.1, false},
	} {
		m := anomaly.NewMachine()
		n := 0
		for i := range 300 {
			n += len(m.Questions(second+int64(float64(i)*c.every*float64(second)), c.ask(i)))
		}
		if (n > 0) != c.want {
			t.Errorf("%s: %d findings", name, n)
		}
	}
}

func TestHeld(t *testing.T) {
	m := anomaly.NewMachine()
	h := anomaly.Held{Action: "spoofing", What: "mac"}
	told := 0
	for i := range 600 { // ten a second for a minute
		if count, tell := m.Does(int64(i)*second/10, h); tell {
			told += count
		}
	}
	if told != 1 {
		t.Errorf("told %d in the first minute", told)
	}
	if count, tell := m.Does(60*second, h); !tell || count != 600 {
		t.Errorf("after a minute: %d, %v", count, tell)
	}
	m.Does(61*second, h)
	var due []string
	for _, at := range []int64{100, 130, 200, 300} {
		m.Due(at*second, func(h anomaly.Held, n int) { due = append(due, fmt.Sprintf("%s %s %d", h.Action, h.What, n)) })
	}
	if !slices.Equal(due, []string{"spoofing mac 1"}) {
		t.Errorf("due: %q", due)
	}
	if count, tell := m.Does(301*second, h); !tell || count != 1 {
		t.Errorf("after it was forgotten: %d, %v", count, tell)
	}
}

// TestBounds has a VM do very many different things.
func TestBounds(t *testing.T) {
	m := anomaly.NewMachine()
	rnd := rand.New(rand.NewPCG(9, 9))
	others := 0
	for i := range 20000 {
		now := int64(i)
		m.Connects(now, packet.TCP, host(rnd.IntN(65536)), uint16(rnd.Uint32()))
		m.Questions(now, fmt.Sprintf("%x.%x.org", rnd.Uint64(), rnd.Uint64()))
		m.Does(now, anomaly.Held{Action: "a", What: fmt.Sprint(i)})
	}
	m.Due(200*second, func(h anomaly.Held, n int) {
		if h.What == anomaly.Other {
			others = n
		}
	})
	if others < 19000 {
		t.Errorf("%d without a place of their own", others)
	}
	if n := m.Size(); n > 256*(64*32+100)+64*(64*40+100)+256*300+128*(96*40+100) {
		t.Errorf("it takes %d bytes", n)
	}
}
