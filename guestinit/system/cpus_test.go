package system

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/guestinit/proto"
)

func TestParseCPUs(t *testing.T) {
	for list, want := range map[string][]int{"0": {0}, "0-3": {0, 1, 2, 3}, "0,2-3,7": {0, 2, 3, 7}} {
		if got, err := parseCPUs(list); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%q: %v, %v", list, got, err)
		}
	}
	for _, list := range []string{"", "x", "3-1", "0-99999999", "-1", "0,"} {
		if got, err := parseCPUs(list); err == nil {
			t.Errorf("%q: %v", list, got)
		}
	}
}

// TestSetCPUs looks at what is written where; that Linux obeys is for a test in a
// guest.
func TestSetCPUs(t *testing.T) {
	for _, c := range []struct {
		online string
		n      int
		want   map[string]string
		fails  bool
	}{
		{"0", 3, map[string]string{"cpu1": "1", "cpu2": "1"}, false},
		{"0,2", 3, map[string]string{"cpu1": "1"}, false},
		{"0-3", 2, map[string]string{"cpu2": "0", "cpu3": "0"}, false},
		{"0,3", 1, map[string]string{"cpu3": "0"}, false},
		{"0-3", 4, map[string]string{}, false},
		{"0-3", 0, map[string]string{}, true},
		{"0-3", 5, map[string]string{}, true},
	} {
		dir := t.TempDir()
		write := func(name, text string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		write("present", "0-3\n")
		write("online", c.online+"\n")
		for _, cpu := range []string{"cpu1", "cpu2", "cpu3"} {
			if err := os.Mkdir(filepath.Join(dir, cpu), 0o755); err != nil {
				t.Fatal(err)
			}
			write(cpu+"/online", "")
		}
		got, err := setCPUs(dir, c.n)
		if (err != nil) != c.fails {
			t.Errorf("%d of %s: %v", c.n, c.online, err)
		}
		// The files here do not change the list: that is what is reported.
		before, _ := parseCPUs(c.online)
		if got != (proto.CPUs{Present: 4, Online: len(before)}) {
			t.Errorf("%d of %s: %+v", c.n, c.online, got)
		}
		for _, cpu := range []string{"cpu1", "cpu2", "cpu3"} {
			text, err := os.ReadFile(filepath.Join(dir, cpu, "online"))
			if err != nil || string(text) != c.want[cpu] {
				t.Errorf("%d of %s: %s has %q (%v), want %q", c.n, c.online, cpu, text, err, c.want[cpu])
			}
		}
	}
}
