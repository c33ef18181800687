package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/internal/testkvm"
	"warder/secmon/event"
	"warder/secmon/event/store"
)

// TestAttackOfThreeVMs performs the demonstration's attack in full, then with
// each act left out or done by another VM. Only the attack of three is refused;
// every other script runs, and those that are complete do what they are for.
func TestAttackOfThreeVMs(t *testing.T) {
	testkvm.Need(t)
	dir := t.TempDir()
	var printed bytes.Buffer
	out := &printer{w: &printed, json: true, verbose: true}
	h, err := startHost(t.Context(), hostConfig{VMs: demoConfig(dir), shipped: demoRules, Store: filepath.Join(dir, "events")}, out)
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	defer func() {
		if !stopped {
			h.stop()
		}
	}()
	d := &demo{host: h, dir: dir, out: out}
	const on, off = "2", "0"
	for _, c := range []struct {
		name      string
		do        attack
		alerts    uint64
		ran       bool
		randomize string
	}{
		{"without-first", attack{"", "b", "c"}, 0, true, on},
		{"without-second", attack{"a", "", "c"}, 0, true, on},
		{"without-run", attack{"a", "b", ""}, 0, false, ""},
		{"in-full", attack{"a", "b", "c"}, 1, false, on},
		{"by-one", attack{"a", "a", "c"}, 0, true, off},
		{"run-by-a-writer", attack{"a", "b", "b"}, 0, true, off},
	} {
		before := h.watch.Stats().Engine.Alerts
		o, err := d.perform(t.Context(), c.name, c.do)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := h.watch.Stats().Engine.Alerts - before; got != c.alerts {
			t.Errorf("%s: %d alerts, want %d", c.name, got, c.alerts)
		}
		if o.ran != c.ran || o.randomize != c.randomize {
			t.Errorf("%s: ran %v, randomize_va_space %q, want %v, %q; the shell said %q", c.name, o.ran, o.randomize, c.ran, c.randomize, o.said)
		}
		if c.alerts > 0 && (o.status == 0 || !strings.Contains(o.said, "operation not permitted")) {
			t.Errorf("%s: the shell ended with status %d and said %q", c.name, o.status, o.said)
		}
		if o.randomize == off {
			if status, err := d.sh(t.Context(), c.do.run, "echo "+on+" > /proc/sys/kernel/randomize_va_space", &printed); status != 0 || err != nil {
				t.Fatalf("%s: putting it back: status %d, %v", c.name, status, err)
			}
		}
	}
	s := h.watch.Stats()
	stopped = true
	if err := h.stop(); err != nil {
		t.Error(err)
	}
	// The supervisor is watched too.
	if len(s.Machines) != 4 || s.LostEvents+s.LostAlerts+s.Engine.Splice.EvictedParts+s.Engine.Splice.EvictedObjects+s.Engine.Splice.Undecided != 0 {
		t.Errorf("stats %+v", s)
	}

	alerts := out.found()
	if len(alerts) != 1 {
		t.Fatalf("%d alerts", len(alerts))
	}
	f := alerts[0].Finding
	var acts []string
	for _, a := range f.Acts {
		acts = append(acts, a.VM+" "+a.Call.Name+" "+a.Call.File.Inner)
	}
	want := []string{"a write /in-full", "b write /in-full", "c execve /in-full"}
	if d := cmp.Diff(want, acts); d != "" {
		t.Errorf("acts (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"a", "b", "c"}, f.VMs); d != "" {
		t.Errorf("VMs (-want +got):\n%s", d)
	}
	// What was printed reads back as events, the alert among them.
	read := 0
	for line := range strings.Lines(printed.String()) {
		var e event.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if e.Kind == event.Alert {
			read++
			if d := cmp.Diff(alerts[0], e); d != "" {
				t.Errorf("alert as printed (-want +got):\n%s", d)
			}
		}
	}
	if read != 1 {
		t.Errorf("%d alerts printed", read)
	}
	// So does what was kept.
	kept := 0
	for e, err := range store.Read(filepath.Join(dir, "events"), store.Query{Kinds: []event.Kind{event.Alert}}) {
		if err != nil {
			t.Fatal(err)
		}
		kept++
		if d := cmp.Diff(alerts[0], e); d != "" {
			t.Errorf("alert as kept (-want +got):\n%s", d)
		}
	}
	if kept != 1 {
		t.Errorf("%d alerts kept", kept)
	}
}
