//go:build soak

package mirror

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"warder/internal/testkvm"
	"warder/supervisor"
	"warder/supervisor/declaration"
	"warder/supervisor/hosting"
)

// TestHang has a supervisor's machine stand still: nothing ends, and nothing answers.
func TestHang(t *testing.T) {
	testkvm.Need(t)
	vms := make(chan *supervisor.ServiceVM, 2)
	m := &VMs{
		Log:   slog.New(slog.DiscardHandler),
		Began: func(vm *supervisor.ServiceVM) { vms <- vm }, Ending: func(*supervisor.ServiceVM) {},
		Refused: func(why string) { t.Error(why) }, Unchecked: func(why string) { t.Error(why) },
	}
	h := hosting.New(nothing{}, nil, hosting.Config{})
	if err := h.Declare(declaration.Service{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	k, err := Start(t.Context(), h, m, func(e Event) { t.Log(e.Action, e.Text) }, m.Log)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := (<-vms).Machine().Pause(); err != nil {
		t.Fatal(err)
	}
	if st, err := h.Status(t.Context(), "a"); err != nil || st.Name != "a" { // it waits for the next one
		t.Fatalf("%+v, %v", st, err)
	}
	for k.Status().Mirrors == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	if st := k.Status(); !strings.Contains(st.Reason, "does not answer") {
		t.Errorf("%+v", st)
	}
	t.Log("another one answered after", time.Since(began))
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	k.Close()
}
