package event

import (
	"net/netip"
	"testing"
)

// TestCommunityID is with the examples of the specification's baseline
// (community-id-spec/baseline/baseline_deflt.json).
func TestCommunityID(t *testing.T) {
	for _, c := range []struct{ transport, a, b, want string }{
		{"tcp", "128.232.110.120:34855", "66.35.250.204:80", "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
		{"tcp", "66.35.250.204:80", "128.232.110.120:34855", "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
		{"udp", "192.168.1.52:54585", "8.8.8.8:53", "1:d/FP5EW3wiY1vCndhwleRRKHowQ="},
		{"tcp", "[2001:470:e5bf:dead:4957:2174:e82c:4887]:63943", "[2607:f8b0:400c:c03::1a]:25", "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="},
		{"udp", "0.0.0.0:54585", "8.8.8.8:53", ""},
		{"icmp", "192.168.0.89:0", "192.168.0.1:0", ""},
		{"vsock", "192.168.0.89:1", "192.168.0.1:2", ""},
	} {
		if got := CommunityID(c.transport, netip.MustParseAddrPort(c.a), netip.MustParseAddrPort(c.b)); got != c.want {
			t.Errorf("%s %s %s: %s, want %s", c.transport, c.a, c.b, got, c.want)
		}
	}
}
