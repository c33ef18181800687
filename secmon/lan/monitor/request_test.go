package monitor_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"warder/secmon/event"
	"warder/secmon/lan"
	"warder/secmon/lan/packet"
	"warder/secmon/lan/request"
)

func TestRefusedRequests(t *testing.T) {
	w := newWorld(t)
	to := netip.MustParseAddrPort("10.0.0.2:80")
	refused := func(r lan.RefusedRequest) {
		r.From, r.VLAN, r.Source, r.Destination = w.vms["a"].port, 1, netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), r.Source.Port()), to
		w.sw.RequestRefused(r)
	}
	b := w.vms["b"].port
	src := netip.AddrPortFrom(netip.IPv4Unspecified(), 4000)
	for range 3 { // is told once
		refused(lan.RefusedRequest{To: b, Protocol: packet.TCP, Source: src, HTTP: &request.Head{Method: "GET", Host: "b\x1b[1m", Path: "/admin"}})
	}
	w.mu.Lock()
	if n := w.events[0].Net; n.Flow != event.FlowID("tcp", n.Source, n.Destination) || n.Flow == 0 {
		t.Errorf("it is of the flow %d", n.Flow)
	}
	w.mu.Unlock()
	refused(lan.RefusedRequest{To: b, Protocol: packet.UDP, Source: src, Name: "Secret.example.com."})
	refused(lan.RefusedRequest{To: b, Protocol: packet.TCP, Source: src, Why: errors.New("no head of HTTP/1")})
	refused(lan.RefusedRequest{Protocol: packet.UDP, Name: "www.example.net"})
	want := []string{
		"anomaly request-refused a a>b:80 GET b?[1m /admin 0 (asks b, port 80/tcp, for what is not declared)",
		"anomaly request-refused a a>b:80  secret.example.com [] (asks b, port 80/udp, for what is not declared)",
		"anomaly request-refused a a>b:80 (says to b, port 80/tcp, what is not passed on: no head of HTTP/1)",
		"anomaly request-refused a a>:80  www.example.net [] (asks the gateway for what is not declared)",
	}
	if got := w.told(); !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}
