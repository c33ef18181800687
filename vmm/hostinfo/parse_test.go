package hostinfo

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/kvm"
	"warder/vmm/cgroup"
)

func TestParseMeminfo(t *testing.T) {
	for in, want := range map[string]Memory{
		"MemTotal:       25184496 kB\nMemFree: 1 kB\nMemAvailable:   23764000 kB\n": {25184496 << 10, 23764000 << 10},
		"MemTotal: 12\n":                    {12 << 10, 0},
		"MemTotal:\nMemAvailable: x\n":      {},
		"MemTotal: 99999999999999999999 kB": {},
		"":                                  {},
	} {
		if d := cmp.Diff(want, parseMeminfo(in)); d != "" {
			t.Errorf("%q (-want +got):\n%s", in, d)
		}
	}
}

func TestParseHypervisor(t *testing.T) {
	const metal, guest = "processor : 0\nflags\t\t: fpu svm\n", "flags\t\t: fpu hypervisor svm\n"
	for _, c := range []struct{ cpuinfo, machine, want string }{
		{metal, "LENOVO 20XW", ""},
		{guest, "LENOVO 20XW", "unknown"},
		{guest, "QEMU Standard PC (Q35 + ICH9, 2009)", "QEMU Standard PC (Q35 + ICH9, 2009)"},
		{"Features : fp asimd\n", "QEMU QEMU Virtual Machine", "QEMU QEMU Virtual Machine"}, // arm64
		{"Features : fp asimd\n", "linux,dummy-virt", "linux,dummy-virt"},
		{"model name : hypervisor\n", "", ""},
		{"", "", ""},
	} {
		if got := parseHypervisor(c.cpuinfo, c.machine); got != c.want {
			t.Errorf("%q on %q: %q, want %q", c.cpuinfo, c.machine, got, c.want)
		}
	}
}

func TestOlder(t *testing.T) {
	for _, c := range []struct {
		release, since string
		want           bool
	}{
		{"6.12.117+deb12-cloud-amd64", "6.4", false},
		{"6.1.0-56-cloud", "6.4", true},
		{"6.4.0", "6.4", false},
		{"6.3.99", "6.4", true},
		{"2.6.32", "2.6.36", true},
		{"5.10", "4.17", false},
		{"", "4.17", false},
		{"garbage", "4.17", false},
	} {
		if got := older(c.release, c.since); got != c.want {
			t.Errorf("%q before %q: %v", c.release, c.since, got)
		}
	}
	if s := todoSince("6.4", "6.1.0"); !strings.Contains(s, "6.4") {
		t.Error(s)
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		guest, native float64
		want          Class
	}{
		{0.27, 0.27, Hardware},
		{0.8, 0.27, Hardware},   // under load
		{5, 4.2, Hardware},      // the lab: both are emulated
		{1132, 0.27, Emulating}, // as measured on one
		{40, 1, Emulating},
	} {
		k := KVM{Guest: c.guest, Native: c.native}
		if k.judge(); k.Class != c.want || k.Reason == "" || (k.Todo == "") != (c.want == Hardware) {
			t.Errorf("%v to %v: %+v", c.guest, c.native, k)
		}
	}
}

// What does not open is explained, each case in its own words.
func TestExplain(t *testing.T) {
	seen := map[string]bool{}
	for _, err := range []error{fs.ErrNotExist, fs.ErrPermission, kvm.ErrNotKVM, errors.New("something else")} {
		reason, todo := explain(fmt.Errorf("open: %w", err))
		if reason == "" || todo == "" || seen[reason] || !strings.Contains(todo, "--lab") {
			t.Errorf("%v: %q, %q", err, reason, todo)
		}
		seen[reason] = true
	}
}

// The time of a round does not depend on what a call costs.
func TestPerRound(t *testing.T) {
	for _, c := range []struct {
		call, round time.Duration
	}{{100 * time.Microsecond, 3 * time.Nanosecond}, {time.Microsecond, time.Microsecond}, {time.Second, time.Millisecond}} {
		got, err := perRound(func(n uint64) (time.Duration, error) { return c.call + time.Duration(n)*c.round, nil })
		if want := float64(c.round); err != nil || got < 0.99*want || got > 1.01*want {
			t.Errorf("%v a call, %v a round: %v ns, %v", c.call, c.round, got, err)
		}
	}
	if ns, err := perRound(func(uint64) (time.Duration, error) { return 0, nil }); err != nil || ns <= 0 {
		t.Errorf("a clock that stands still: %v, %v", ns, err)
	}
	boom := errors.New("boom")
	if _, err := perRound(func(uint64) (time.Duration, error) { return 0, boom }); !errors.Is(err, boom) {
		t.Error(err)
	}
}

// The items of a host tell apart what is missing from what may not be used.
func TestHostItems(t *testing.T) {
	find := func(r Report, name string) Item {
		t.Helper()
		for _, i := range r.hostItems() {
			if i.Name == name {
				return i
			}
		}
		t.Fatalf("no item %q", name)
		return Item{}
	}
	good := Report{
		Arch: "amd64", Kernel: "6.12.1", Memory: Memory{4 << 30, 2 << 30}, KVM: KVM{Class: Hardware}, Landlock: 4,
		Cgroup: cgroup.Place{Dir: "/x", Controllers: []string{"cpu"}, Delegated: true}, Userfaultfd: Userfaultfd{true, true, true},
		TAP: TAP{Usable: true},
	}
	for _, i := range good.hostItems() {
		if !i.Present || i.Todo != "" {
			t.Errorf("%+v", i)
		}
	}
	for _, c := range []struct {
		name, says string
		spoil      func(*Report)
	}{
		{"memory", "256 MiB", func(r *Report) { r.Memory.Available = 100 << 20 }},
		{"KVM", "--lab", func(r *Report) { r.KVM = KVM{Class: None, Todo: lab} }},
		{"Landlock", "lsm=", func(r *Report) { r.Landlock = 0 }},
		{"cgroup v2", "mount", func(r *Report) { r.Cgroup = cgroup.Place{} }},
		{"cgroup v2", "systemd-run", func(r *Report) { r.Cgroup.Delegated = false }},
		{"cgroup v2", "--cgroup", func(r *Report) { r.Cgroup.Controllers = []string{"memory", "pids"} }},
		{"TAP", "modprobe", func(r *Report) { r.TAP = tapOf(unix.ENOENT) }},
		{"userfaultfd", "sysctl", func(r *Report) { r.Userfaultfd = Userfaultfd{} }},
		{"userfaultfd", "5.19", func(r *Report) { r.Userfaultfd.Shared, r.Kernel = false, "5.10.0" }},
		{"userfaultfd", "6.10", func(r *Report) { r.Userfaultfd.Shared, r.Kernel, r.Arch = false, "6.1.0", "arm64" }},
	} {
		r := good
		c.spoil(&r)
		if i := find(r, c.name); i.Present || !strings.Contains(i.Todo, c.says) {
			t.Errorf("%s: %+v, want %q", c.name, i, c.says)
		}
	}
}
