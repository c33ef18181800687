package system

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestReserve looks at where the line is drawn; that Linux slows down who crosses it
// is for a test in a guest.
func TestReserve(t *testing.T) {
	const mib = 1 << 20
	dir := t.TempDir()
	write := func(name, format string, args ...any) {
		if err := os.WriteFile(filepath.Join(dir, name), fmt.Appendf(nil, format, args...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	state := func(total, available, used, crossings int) {
		write("meminfo", "MemTotal: %d kB\nMemAvailable: %d kB\n", total<<10, available<<10)
		write("memory.current", "%d\n", used*mib)
		write("memory.events", "low 0\nhigh %d\nmax 0\n", crossings)
	}
	if _, err := newReserve(dir, filepath.Join(dir, "meminfo")); err == nil {
		t.Error("a reserve without a cgroup")
	}
	state(240, 140, 60, 7)
	r, err := newReserve(dir, filepath.Join(dir, "meminfo"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.events.Close()
	now := time.Now()
	is := func(what string, mibs int) {
		t.Helper()
		want := "max"
		if mibs > 0 {
			want = fmt.Sprint(mibs * mib)
		}
		b, err := os.ReadFile(filepath.Join(dir, "memory.high"))
		if err != nil || string(b) != want {
			t.Errorf("%s: the line is %s, want %s (%v)", what, b, want, err)
		}
	}
	is("at first", 60+140-20)
	state(240, 100, 80, 7) // others use 20 MiB more
	r.keep(now)
	is("with less for the commands", 160)
	if r.crossed() || r.tick() != calmTick {
		t.Error("crossed by nobody")
	}
	state(240, 18, 162, 8)
	if !r.crossed() || r.crossed() || r.tick() != shortTick {
		t.Error("not crossed once")
	}
	r.keep(now)
	is("while the host is waited for", 160)
	state(480, 250, 162, 8)
	r.keep(now)
	is("with more", 162+250-40)
	if r.tick() != shortTick {
		t.Error("what comes block by block is looked at a second later")
	}
	state(480, 90, 373, 9)
	if !r.crossed() {
		t.Error("not crossed where the line was drawn for less")
	}
	r.keep(now)
	is("with more than there was when it was drawn", 373+90-40)
	if !r.until.IsZero() {
		t.Error("the host is waited for, which has given all")
	}
	state(480, 30, 424, 10)
	if !r.crossed() {
		t.Error("not crossed a second time")
	}
	r.keep(time.Now().Add(2 * patience))
	is("when nothing came", 0)
	state(480, 60, 350, 10)
	r.keep(now)
	is("while little is available", 0)
	state(480, 100, 310, 11)
	r.keep(now)
	is("when some is again", 370)
}
