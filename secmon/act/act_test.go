package act

import (
	"strings"
	"testing"
	"time"

	"warder/devices/guestmem"
	"warder/secmon/event"
	"warder/vmm"
	"warder/vmm/pagetable"
)

// cpu stands somewhere.
type cpu struct{ pc uint64 }

func (c cpu) PC() uint64                             { return c.pc }
func (c cpu) AddressSpace() (pagetable.Space, error) { return pagetable.AMD64{}.Space(), nil }

// watcher reports into a slice, by a clock that stands still.
func watcher(t *testing.T) (w *Watcher, events *[]event.Event, clock *time.Time) {
	t.Helper()
	mem, err := guestmem.New(guestmem.Region{Base: 0x1000, Bytes: []byte(strings.Repeat("report", 1000)[:4096])})
	if err != nil {
		t.Fatal(err)
	}
	events, clock = new([]event.Event), new(time.Time)
	*clock = time.Unix(100, 0)
	w = New(Config{VM: "a", Memory: mem, Sink: func(e event.Event) { *events = append(*events, e) }})
	w.now = func() time.Time { return *clock }
	return w, events, clock
}

func TestActsAreSaid(t *testing.T) {
	for _, c := range []struct {
		act     vmm.Act
		action  string
		message string
	}{
		{vmm.Act{Kind: vmm.RegisterWrite, Name: "STAR", Value: 5}, "register-write", "the guest sets STAR to 0x5"},
		{vmm.Act{Kind: vmm.RegisterWrite, Name: "EFER", Value: 5, Refused: true}, "register-write", "the guest may not set EFER to 0x5"},
		{vmm.Act{Kind: vmm.RegisterWrite, Name: "LSTAR", Value: 0xffff}, "register-write", "the guest sets LSTAR to 0xffff"},
		{vmm.Act{Kind: vmm.RegisterWrite, Name: "LSTAR", Old: 0xffff, Value: 0xeeee}, EntryMoved,
			"system calls no longer enter the kernel at 0xffff, which is outside the kernel but at 0xeeee, which is outside the kernel"},
		{vmm.Act{Kind: vmm.Stray, Addr: 0x99, Port: true, Write: true, Size: 1}, "stray-access", "the guest writes 1 bytes to port 0x99, where nothing is"},
		{vmm.Act{Kind: vmm.Stray, Addr: 0xd0900000, Size: 4}, "stray-access", "the guest reads 4 bytes from address 0xd0900000, where nothing is"},
		{vmm.Act{Kind: vmm.FirmwareCall, Name: "smc", Value: 5}, "firmware-call", "the guest makes smc 0x5, which nobody answers"},
		{vmm.Act{Kind: vmm.Hypercall, Value: 99}, "hypercall", "the guest makes hypercall 0x63, which nobody answers"},
		{vmm.Act{Kind: vmm.Hypercall, Value: vmm.HypercallMark, Args: [4]uint64{7}}, "hypercall", "the guest marks 0x7"},
		{vmm.Act{Kind: vmm.Crash, Message: "triple fault"}, "crash", "triple fault"},
	} {
		w, events, _ := watcher(t)
		w.Act(cpu{1}, c.act)
		if len(*events) != 1 {
			t.Fatalf("%+v: %d events", c.act, len(*events))
		}
		e := (*events)[0]
		if e.Action != c.action || e.Message != c.message || e.Kind != event.Privileged || e.VM != "a" || e.Seq != 1 || e.Access.Count != 1 {
			t.Errorf("%+v:\n%s: %q, %+v", c.act, e.Action, e.Message, e.Access)
		}
	}
}

// A register that gets the value that it has is nothing to tell of.
func TestSameValue(t *testing.T) {
	w, events, _ := watcher(t)
	w.Act(cpu{1}, vmm.Act{Kind: vmm.RegisterWrite, Name: "LSTAR", Old: 5, Value: 5})
	if len(*events) != 0 {
		t.Errorf("events %+v", *events)
	}
}

func TestReport(t *testing.T) {
	w, events, _ := watcher(t)
	call := func(addr, size uint64) uint64 {
		return w.Act(cpu{1}, vmm.Act{Kind: vmm.Hypercall, Value: vmm.HypercallReport, Args: [4]uint64{addr, size}})
	}
	if got := call(0x1006, 6); got != 0 || string((*events)[0].Access.Data) != "report" {
		t.Errorf("gave %#x, %+v", got, (*events)[0].Access)
	}
	for _, bad := range [][2]uint64{{0x1000, maxReport + 1}, {0x1000, 1<<64 - 1}, {0x1fff, 2}, {1<<64 - 1, 1}} {
		if got := call(bad[0], bad[1]); got != vmm.NotSupported {
			t.Errorf("%#x: gave %#x", bad, got)
		}
	}
	for _, e := range (*events)[1:] {
		if e.Access.Data != nil {
			t.Errorf("data %x", e.Access.Data)
		}
	}
}

// TestStorm has a guest do one thing without end: what is left out is counted, and
// what matters most is never left out.
func TestStorm(t *testing.T) {
	w, events, clock := watcher(t)
	const acts = 100_000
	for range acts {
		w.Act(cpu{1}, vmm.Act{Kind: vmm.Stray, Addr: 0x99, Port: true, Size: 1})
	}
	if len(*events) != burst {
		t.Errorf("%d events at once, want %d", len(*events), burst)
	}
	w.Act(cpu{1}, vmm.Act{Kind: vmm.RegisterWrite, Name: "LSTAR", Old: 1, Value: 2})
	*clock = clock.Add(time.Second)
	w.Act(cpu{1}, vmm.Act{Kind: vmm.Stray, Addr: 0x99, Port: true, Size: 1})
	w.Act(cpu{1}, vmm.Act{Kind: vmm.Crash, Message: "m"})
	var counted uint64
	var actions []string
	for _, e := range *events {
		if e.Action == vmm.Stray.String() {
			counted += e.Access.Count
		} else {
			actions = append(actions, e.Action)
		}
	}
	if counted != acts+1 {
		t.Errorf("events stand for %d acts, want %d", counted, acts+1)
	}
	if strings.Join(actions, " ") != EntryMoved+" crash" {
		t.Errorf("besides: %v", actions)
	}
}
