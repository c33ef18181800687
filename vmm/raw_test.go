package vmm_test

import (
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"warder/internal/testkernel"
	"warder/internal/testkvm"
	"warder/vmm"
)

// raw builds a machine whose kernel is a few instructions. It runs on any KVM,
// also one that emulates the guest's kernel mode.
func raw(t *testing.T, code []byte) *vmm.Machine {
	t.Helper()
	return rawMachine(t, code, vmm.Config{})
}

// rawMachine is raw with more of a machine around it.
func rawMachine(t testing.TB, code []byte, cfg vmm.Config) *vmm.Machine {
	t.Helper()
	testkvm.Open(t)
	cfg.Name, cfg.Memory, cfg.Kernel = t.Name(), 64<<20, rawKernelFile(t, code)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	m, err := vmm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

// rawKernelFile is the path of a kernel that is a few instructions.
func rawKernelFile(t testing.TB, code []byte) string {
	t.Helper()
	path := testkernel.RawFile(t, code)
	return path
}

// ended starts m and waits for its end.
func ended(t *testing.T, m *vmm.Machine) vmm.Exit {
	t.Helper()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Done():
	case <-time.After(time.Minute):
		t.Fatal("the guest of a few instructions did not end")
	}
	return m.Wait()
}

func TestPowerOff(t *testing.T) {
	if e := ended(t, raw(t, codePowerOff)); e.Reason != vmm.PowerOff {
		t.Errorf("ended by %v", e)
	}
}

// TestCrashIsReported runs an instruction that the guest can't survive.
func TestCrashIsReported(t *testing.T) {
	m := raw(t, codeCrash)
	e := ended(t, m)
	if e.Reason != vmm.Crashed || e.Report == nil {
		t.Fatalf("ended by %v", e)
	}
	if text := e.Report.String(); !strings.Contains(text, crashInstruction) || !strings.Contains(text, crashRegister) {
		t.Errorf("the report lacks %q or %q:\n%s", crashInstruction, crashRegister, text)
	}
}

// TestTrapDecides has a guest call a function with a hook at its start, and
// switch off by the register that tells what the function returned.
func TestTrapDecides(t *testing.T) {
	for name, c := range map[string]struct {
		action vmm.TrapAction
		want   vmm.Reason
	}{
		"pass":    {vmm.Pass, vmm.PowerOff},    // the function returns 1
		"return":  {vmm.Return(-1), vmm.Reset}, // the hook returns -1
		"decline": {vmm.Decline, declined},
	} {
		t.Run(name, func(t *testing.T) {
			m := raw(t, codeTrap)
			var hits int
			var arg uint64
			err := m.SetTrap(func(v *vmm.VCPU) vmm.TrapAction {
				hits++
				arg = v.Arg(0)
				return c.action
			})
			if err != nil {
				t.Fatal(err)
			}
			if e := ended(t, m); e.Reason != c.want {
				t.Errorf("ended by %v, want %v\n%v", e, c.want, e.Report)
			}
			if hits != 1 || arg != 0x1234 || m.Stats().Traps != 1 {
				t.Errorf("%d hits with argument %#x, %d counted", hits, arg, m.Stats().Traps)
			}
		})
	}
}

func TestKillFromPause(t *testing.T) {
	m := raw(t, codeSpin)
	if err := m.Pause(); err == nil {
		t.Error("a machine that was not started could be paused")
	}
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(); err == nil {
		t.Error("a machine could be started twice")
	}
	for range 100 {
		if err := m.Pause(); err != nil {
			t.Fatal(err)
		}
		if !m.Paused() {
			t.Fatal("it is paused and does not say so")
		}
		if err := m.Resume(); err != nil {
			t.Fatal(err)
		}
	}
	if m.Paused() {
		t.Error("it says that it is paused")
	}
	if err := m.Pause(); err != nil {
		t.Fatal(err)
	}
	m.Kill()
	if e := m.Wait(); e.Reason != vmm.Killed {
		t.Errorf("ended by %v", e)
	}
	if err := m.Pause(); err == nil {
		t.Error("an ended machine could be paused")
	}
}

// TestNeverStarted ends machines that no guest ran in.
func TestNeverStarted(t *testing.T) {
	m := raw(t, codeSpin)
	if err := m.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if e := m.Wait(); e.Reason != vmm.Killed {
		t.Errorf("ended by %v", e)
	}
	if err := m.Start(); err == nil {
		t.Error("a machine that has ended could be started")
	}
	m = raw(t, codeSpin)
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if err := m.Start(); err == nil {
		t.Error("a closed machine could be started")
	}
}

// TestAskedAfterTheEnd asks for things of machines that end and are closed at the
// same time: whoever watches a machine is seldom the one who ends it.
func TestAskedAfterTheEnd(t *testing.T) {
	for range 20 {
		m := raw(t, codeSpin)
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		var watchers sync.WaitGroup
		asked := make(chan struct{}, 4)
		for _, ask := range []func() error{
			func() error { return m.Do(func(*vmm.VCPU) error { return nil }) },
			func() error { return m.Pause() },
			func() error { return m.WithVCPUsStopped(func() error { return nil }) },
			func() error { m.Stats(); return m.Do(func(*vmm.VCPU) error { return nil }) },
		} {
			watchers.Go(func() {
				for i := 0; ; i++ {
					if i == 3 {
						asked <- struct{}{}
					}
					if err := ask(); err != nil && i > 3 {
						return
					}
					if err := m.Resume(); err != nil {
						t.Error(err)
					}
					runtime.Gosched() // where there is one CPU, one alone could keep it for seconds
				}
			})
		}
		for range cap(asked) {
			<-asked
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		watchers.Wait()
		for range 50 {
			if err := m.Do(func(*vmm.VCPU) error { return nil }); err == nil {
				t.Fatal("a closed machine did something")
			}
		}
	}
}
