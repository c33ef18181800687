package declaration

import "testing"

func TestSize(t *testing.T) {
	for in, want := range map[string]Size{
		"1": 1 << 20, "512M": 512 << 20, "512m": 512 << 20, "512MiB": 512 << 20, "512mb": 512 << 20,
		"2G": 2 << 30, "64k": 64 << 10, "1T": 1 << 40,
	} {
		var got Size
		if err := got.Set(in); err != nil || got != want {
			t.Errorf("%s: %d, error %v; want %d", in, got, err, want)
		}
		var again Size
		if err := again.Set(got.String()); err != nil || again != want {
			t.Errorf("%s: written as %s, which is %d, error %v", in, &got, again, err)
		}
	}
	for _, in := range []string{"", "0", "M", "-1", "1.5G", "5X", "99999999999T", "1 G"} {
		var got Size
		if err := got.Set(in); err == nil {
			t.Errorf("%q: %d", in, got)
		}
	}
}

func TestMemory(t *testing.T) {
	for in, want := range map[string]Memory{
		"512M": {512 << 20, 0}, "256M:1G": {256 << 20, 1 << 30}, "1G:1G": {1 << 30, 1 << 30},
	} {
		var got, again Memory
		if err := got.Set(in); err != nil || got != want {
			t.Errorf("%s: %v, error %v; want %v", in, got, err, want)
		}
		if err := again.Set(got.String()); err != nil || again != want {
			t.Errorf("%s: written as %s, which is %v, error %v", in, &got, again, err)
		}
	}
	for _, in := range []string{"", ":", "1G:", ":1G", "1G:512M", "1G:2G:3G"} {
		var got Memory
		if err := got.Set(in); err == nil {
			t.Errorf("%q: %v", in, got)
		}
	}
}
