package vmm

import (
	"strings"
	"testing"

	"warder/devices/virtio/net"
)

func TestNetConfig(t *testing.T) {
	a, b := net.Wire()
	base := Config{Name: "n", CPUs: 1, Kernel: "k"}
	for name, c := range map[string]struct {
		nets []Net
		want string // in the error; none: it is right
	}{
		"two ends":        {nets: []Net{{Port: a}, {Port: b, MTU: 9000, Pairs: 4}}},
		"a TAP":           {nets: []Net{{TAP: "t0"}}},
		"nothing":         {nets: []Net{{}}, want: "one thing"},
		"both":            {nets: []Net{{Port: a, TAP: "t0"}}, want: "one thing"},
		"a group address": {nets: []Net{{Port: a, MAC: net.MAC{1}}}, want: "first byte even"},
		"the same address": {nets: []Net{{Port: a, MAC: net.MAC{2}}, {Port: b, MAC: net.MAC{2}}},
			want: "is taken"},
		"a small MTU":    {nets: []Net{{Port: a, MTU: 67}}, want: "MTU 67: give 68 to 65535"},
		"too many pairs": {nets: []Net{{Port: a, Pairs: 9}}, want: "9 queue pairs"},
	} {
		cfg := base
		cfg.Nets = c.nets
		got, err := cfg.withDefaults()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if err == nil && (got.Nets[0].MAC != DefaultMAC("n", 0) || got.Nets[0].Pairs == 0) {
			t.Errorf("%s: defaults %+v", name, got.Nets[0])
		}
		if cfg.Nets[0] != c.nets[0] {
			t.Errorf("%s: the caller's configuration was changed", name)
		}
	}
}

func TestDefaultMAC(t *testing.T) {
	seen := map[net.MAC]bool{}
	for _, name := range []string{"a", "b", "interface"} {
		for i := range 3 {
			m := DefaultMAC(name, i)
			if m[0]&3 != 2 || seen[m] || m != DefaultMAC(name, i) {
				t.Errorf("interface %d of %s: %v", i, name, m)
			}
			seen[m] = true
		}
	}
}
