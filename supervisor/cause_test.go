package supervisor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warder/guestinit/control"
	"warder/vmm"
)

func TestGone(t *testing.T) {
	for name, tt := range map[string]struct {
		exit     vmm.Exit
		serial   string
		want     string
		panicked bool
	}{
		"panic": {
			vmm.Exit{Reason: vmm.Reset},
			"[    1.0] something\r\n[    2.000000] Kernel panic - not syncing: sysrq triggered crash\r\n[    2.1] CPU: 0\r\n",
			"the guest kernel panicked: sysrq triggered crash", true,
		},
		"out of memory": {
			vmm.Exit{Reason: vmm.Reset},
			"Kernel panic - not syncing: System is deadlocked on memory\n",
			"the guest is out of memory, its kernel panicked: System is deadlocked on memory (give it more memory)", true,
		},
		"PID 1 died": {
			vmm.Exit{Reason: vmm.Reset},
			"panic: index out of range\nKernel panic - not syncing: Attempted to kill init! exitcode=0x00000200\n",
			"the guest's PID 1 failed, so its kernel panicked: Attempted to kill init! exitcode=0x00000200", true,
		},
		"no PID 1": {
			vmm.Exit{Reason: vmm.Reset},
			"Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n",
			"the guest kernel found no PID 1 in its initramfs: VFS: Unable to mount root fs on unknown-block(0,0)", true,
		},
		"PID 1 gave up": {
			vmm.Exit{Reason: vmm.PowerOff},
			"warder-init: cannot reach the host: nobody listens on the host\n",
			"the guest switched itself off, its PID 1 had said: cannot reach the host: nobody listens on the host", false,
		},
		"power off": {vmm.Exit{Reason: vmm.PowerOff}, "", "the guest switched itself off", false},
		"crash": {
			vmm.Exit{Reason: vmm.Crashed, Err: errors.New("triple fault")}, "last words\n",
			"the guest crashed: triple fault, its kernel had said: last words", false,
		},
		"terminal tricks": {
			vmm.Exit{Reason: vmm.Reset}, "Kernel panic - not syncing: \x1b[2J\x1b]0;title\x07\u202eevil\n",
			"the guest kernel panicked: [2J]0;titleevil", true,
		},
	} {
		e := gone(tt.exit, []byte(tt.serial))
		if e.Error() != tt.want || e.Panicked != tt.panicked {
			t.Errorf("%s: %q, panicked %v; want %q, %v", name, e.Error(), e.Panicked, tt.want, tt.panicked)
		}
		if tt.exit.Err != nil && !errors.Is(e, tt.exit.Err) {
			t.Errorf("%s: the machine's error is lost", name)
		}
	}
}

func TestStuck(t *testing.T) {
	up := vmm.Stats{Exits: map[string]uint64{"mmio": 5}, Devices: []vmm.DeviceStats{{Name: "vsock"}}}
	up.Devices[0].Chains = 1
	for name, tt := range map[string]struct {
		reached string
		stats   vmm.Stats
		serial  string
		want    string
	}{
		"nothing at all":  {"", vmm.Stats{}, "", "has not touched a device"},
		"silent":          {"", vmm.Stats{Exits: map[string]uint64{"io": 1}}, "", "--console"},
		"no driver":       {"", vmm.Stats{Exits: map[string]uint64{"io": 1}}, "Run /init as init process\n", "its kernel's last words: Run /init as init process"},
		"driver, no call": {"", up, "", "has not dialled"},
		"in PID 1":        {"", up, "warder-init: still busy: load modules\n", "its PID 1 says: still busy: load modules"},
		"after the call":  {reached(nil, &control.HelloError{Err: context.DeadlineExceeded}), up, "warder-init: still busy: reach the host\n", "has dialled the host, but not introduced itself"},
		"in the set-up":   {reached(new(control.Guest), context.DeadlineExceeded), up, "", "not finished its set-up"},
		"nobody dialled":  {reached(nil, context.DeadlineExceeded), up, "", "has not dialled"},
	} {
		if e := stuck(3*time.Second, tt.reached, tt.stats, []byte(tt.serial)); !strings.Contains(e.Error(), tt.want) || !strings.Contains(e.Error(), "3s") {
			t.Errorf("%s: %q lacks %q", name, e.Error(), tt.want)
		}
	}
}

func TestStalled(t *testing.T) {
	vm := &ServiceVM{serial: new(tail)}
	vm.serial.Write([]byte("clocksource: timekeeping watchdog\n"))
	err := vm.explain(fmt.Errorf("%w: its stdout did not come", control.ErrStalled))
	g, ok := errors.AsType[*GuestError](err)
	if !ok || !strings.Contains(g.Cause, "its stdout did not come") || len(g.Serial) != 1 {
		t.Errorf("error %#v", err)
	}
}

func TestTail(t *testing.T) {
	var all []byte
	var passed strings.Builder
	tl := &tail{next: &passed}
	for i := 0; len(all) < 3*tailSize; i++ {
		line := strings.Repeat(string(rune('a'+i%26)), i%97) + "\n"
		all = append(all, line...)
		tl.Write([]byte(line))
		want := all[max(0, len(all)-tailSize):]
		if i%50 == 0 && string(tl.bytes()) != string(want) {
			t.Fatalf("after %d bytes the tail is wrong", len(all))
		}
	}
	if passed.String() != string(all) {
		t.Error("not all was passed on")
	}
}

func TestLines(t *testing.T) {
	got := lines([]byte("[    0.5] one\r\n\r\n\ttwo\x00\n[x] three\n" + strings.Repeat("é", maxLine+1)))
	want := []string{"one", "two", "[x] three", strings.Repeat("é", maxLine) + "..."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzLines holds that nothing a guest prints reaches a terminal as more than
// text of bounded length.
func FuzzLines(f *testing.F) {
	f.Add([]byte("[    1.0] a\x1b[31mred\n\xff\xfe\u2028"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, l := range lines(b) {
			if len([]rune(l)) > maxLine+3 {
				t.Errorf("a line of %d characters", len([]rune(l)))
			}
			for _, r := range l {
				if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == '\u202e' {
					t.Errorf("%q has %U", l, r)
				}
			}
		}
	})
}

func TestSpecValidate(t *testing.T) {
	for guest, ok := range map[string]bool{"/x": true, "/": false, "x": false, "": false, "/../": false} {
		if err := (Spec{Shares: []Share{{Host: "/tmp", Guest: guest}}}).validate(); (err == nil) != ok {
			t.Errorf("share at %q: %v", guest, err)
		}
	}
	if err := (Spec{Shares: []Share{{"/a", "/x", false}, {"/b", "/x/", true}}}).validate(); err == nil {
		t.Error("two shares at one place")
	}
}
