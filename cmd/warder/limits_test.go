package main

import "testing"

func TestCheckMemory(t *testing.T) {
	vms := []hostVM{{Name: "a"}, {Name: "b", memory: memory{32 << 20, 64 << 20}}} // 320 MiB
	for _, c := range []struct {
		available  uint64
		overcommit bool
		ok         bool
	}{{320 << 20, false, true}, {320<<20 - 1, false, false}, {1 << 20, true, true}} {
		cfg := hostConfig{VMs: vms, Overcommit: c.overcommit}
		if err := cfg.checkMemory(c.available); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
