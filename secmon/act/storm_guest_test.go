package act

import (
	"errors"
	"log/slog"
	"testing"

	"warder/internal/testkernel"
	"warder/internal/testkvm"
	"warder/secmon/event"
	"warder/vmm"
)

// TestGuestThatHalts has a guest do nothing else. A Linux guest does not halt so
// often: the host's kernel has it wait.
func TestGuestThatHalts(t *testing.T) {
	testkvm.Open(t)
	path := testkernel.RawFile(t, halting)
	m, err := vmm.New(vmm.Config{Memory: 64 << 20, Kernel: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := m.Halts(); errors.Is(err, errors.ErrUnsupported) {
		testkvm.Missing(t, err.Error())
	}
	storms := make(chan event.Event, 1)
	w := New(Config{VM: "vm", Sink: func(e event.Event) {
		select {
		case storms <- e:
		default:
		}
	}})
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		// Far below the limit that is usual: how fast it halts is up to the machine.
		w.storms(t.Context(), m, 1)
	}()
	select {
	case e := <-storms:
		if e.Kind != event.Privileged || e.Action != HaltStorm || e.VM != "vm" || e.Access == nil {
			t.Errorf("event %+v", e)
		}
		t.Log(e.Message)
	case <-m.Done():
		if e := m.Wait(); e.Reason != vmm.Reset {
			t.Fatalf("it ended by %v", e)
		}
		testkvm.Missing(t, "an interrupt controller that this guest knows")
	}
	m.Kill()
	<-looked
}
