package watch

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"warder/secmon/event"
	"warder/secmon/pattern"
)

// notes is a responder that notes what it is asked, and fails at some.
type notes struct {
	mu    sync.Mutex
	asked []string
	wait  time.Duration
}

func (n *notes) Respond(vm string, r pattern.Response) (string, error) {
	time.Sleep(n.wait)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, fmt.Sprint(r, " ", vm))
	if r == pattern.Mirror {
		return "", errors.New("no supervisor")
	}
	return "as asked", nil
}

func newWatch(t *testing.T) *Watch {
	t.Helper()
	rules, err := pattern.ShippedFile("host_parameter_splice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func alert(response string) event.Event {
	return event.Event{Kind: event.Alert, VM: "c", Finding: &event.Finding{
		Response: response, VMs: []string{"a", "b", "c"}, Acts: []event.Event{{VM: "c", Kind: event.Syscall, Call: event.Call{Name: "execve"}}},
	}}
}

// A response is carried out on those VMs that it is said to be about, in the
// order of the rule, and the alert says what came of it.
func TestResponses(t *testing.T) {
	n := &notes{}
	w := newWatch(t)
	w.Responder = n
	for response, want := range map[string][]event.Taken{
		"alert":  nil,
		"record": nil,
		"block":  {{Response: "block", VM: "c", Detail: "execve failed with EPERM"}},
		"block,pause": {
			{Response: "block", VM: "c", Detail: "execve failed with EPERM"}, {Response: "pause", VM: "c", Detail: "as asked"},
		},
		"isolate,destroy": {
			{Response: "isolate", VM: "a", Detail: "as asked"}, {Response: "isolate", VM: "b", Detail: "as asked"}, {Response: "isolate", VM: "c", Detail: "as asked"},
			{Response: "destroy", VM: "c", Detail: "as asked"},
		},
		"mirror": {
			{Response: "mirror", VM: "a", Failed: "no supervisor"}, {Response: "mirror", VM: "b", Failed: "no supervisor"}, {Response: "mirror", VM: "c", Failed: "no supervisor"},
		},
	} {
		before := alert(response)
		w.raise(before, nil)
		got, err := w.Alerts.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got.Finding.Taken); d != "" {
			t.Errorf("%s (-want +got):\n%s", response, d)
		}
		if before.Finding.Taken != nil {
			t.Errorf("%s: the alert that was given was changed", response)
		}
	}
}

// A response that takes too long is said to be under way, and its end is an event.
func TestSlowResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		w.Responder = &notes{wait: respondTime + time.Second}
		w.raise(alert("snapshot"), nil)
		start := time.Now()
		got, err := w.Alerts.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, taken := range got.Finding.Taken {
			if taken.Failed != errLate.Error() {
				t.Errorf("%+v", taken)
			}
		}
		if took := time.Since(start); took != 3*respondTime || len(got.Finding.Taken) != 3 {
			t.Errorf("after %v: %+v", took, got.Finding.Taken)
		}
		w.Settled(t.Context())
		for range 3 {
			e, err := w.Events.Next(t.Context())
			if err != nil || e.Message != "snapshot is done now: as asked" {
				t.Errorf("%q, %v", e.Message, err)
			}
		}
	})
}

// More than can be done is not done, and said.
func TestTooManyResponses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		w.Responder = &notes{wait: time.Second}
		for range maxResponding + 1 {
			w.raise(alert("destroy"), nil)
		}
		got, err := w.Alerts.Next(t.Context())
		if err != nil || got.Finding.Taken[0].Failed != errBusy.Error() {
			t.Errorf("%+v, %v", got.Finding, err)
		}
		w.Settled(t.Context())
	})
}

// Snapshots are bounded, and without a directory there are none.
func TestNoSnapshot(t *testing.T) {
	for want, c := range map[string]struct {
		m   *machine
		dir string
	}{
		"there is no directory for snapshots": {&machine{}, ""},
		"4 snapshots of it have been taken":   {&machine{snapshots: maxSnapshots}, t.TempDir()},
	} {
		if _, err := c.m.snapshot(c.dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// What is not watched any more cannot be responded to.
func TestRespondToNobody(t *testing.T) {
	w := newWatch(t)
	for _, r := range pattern.Responses {
		if _, err := (machines{w}).Respond("x", r); !errors.Is(err, errGone) {
			t.Errorf("%s: %v", r, err)
		}
	}
}
