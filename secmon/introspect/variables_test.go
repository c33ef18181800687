package introspect

import (
	"slices"
	"testing"
)

// TestFunctionsAlone takes from the symbols of a real kernel what one built without
// CONFIG_KALLSYMS_ALL does not have, and has the table count from another place.
func TestFunctionsAlone(t *testing.T) {
	realKernels(t, func(t *testing.T, k *Kernel, im *image) {
		if !configured(t, k.Arch(), "CONFIG_MODULES") {
			return // it exports nothing
		}
		const moved = 0x10000
		var functions []Symbol
		for s := range k.symbols.All() {
			if s.Type == 't' || s.Type == 'T' {
				s.Addr -= moved
				functions = append(functions, s)
			}
		}
		got := withVariables(im, newSymbols(functions))
		for _, name := range []string{"init_task", "init_net", "init_pid_ns", "kernel_clone", "security_bprm_check"} {
			want, err := k.symbols.Addr(name)
			if err != nil {
				t.Fatal(err)
			}
			if at, err := got.Addr(name); err != nil || at != want {
				t.Errorf("%s is at %#x, found at %#x, %v", name, want, at, err)
			}
		}
		if banner, err := readBanner(im, got); err != nil || string(banner) != string(k.banner) {
			t.Errorf("banner %q, %v", banner, err) // some kernels have it twice
		}
		if !slices.IsSortedFunc(got.sorted, func(a, b Symbol) int {
			if a.Addr < b.Addr {
				return -1
			}
			return 1
		}) {
			t.Error("the table is out of order")
		}
		types, err := loadTypes(im, got)
		if err != nil {
			t.Fatal(err)
		}
		if l, err := newLayout(types, k.Arch()); err != nil || *l != *k.layout {
			t.Errorf("the types are others: %v", err)
		}
		for s := range k.symbols.All() {
			if at, err := got.Addr(s.Name); s.Type == 'D' && s.Name != "linux_banner" && err == nil {
				if want, _ := k.symbols.Addr(s.Name); at != want {
					t.Errorf("%s is at %#x, found at %#x", s.Name, want, at)
				}
			}
		}
	})
}

// A table that points outside the image, or at what is no name, has no symbols.
func TestExportsOfNothing(t *testing.T) {
	text := append(make([]byte, 64), "\x00init_task\x00"...)
	for _, c := range []struct {
		name       string
		at         int
		value, ns  int32
		wantsFound bool
	}{
		{"sound", 16, 0x1000, 65 - 24, true},
		{"a name space outside", 16, 0x1000, 1 << 20, false},
		{"a name space before", 16, 0x1000, -1 << 20, false},
		{"at the end", 56, 0x1000, 65 - 64, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := slices.Clone(text)
			le.PutUint32(data[c.at:], uint32(c.value))
			le.PutUint32(data[c.at+4:], uint32(65-(c.at+4)))
			le.PutUint32(data[c.at+8:], uint32(c.ns))
			im := &image{arch: "arm64", flat: true, segments: []segment{{0, data}}}
			got := im.exports()
			if found := slices.Contains(got, Symbol{"init_task", 'D', uint64(c.at) + 0x1000}); found != c.wantsFound {
				t.Errorf("%+v", got)
			}
		})
	}
	for n := range text {
		(&image{segments: []segment{{0, text[:n]}}}).exports()
	}
}
