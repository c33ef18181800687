package vmm_test

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warder/devices/virtio/net"
	"warder/internal/testkernel"
	"warder/internal/testkvm"
	"warder/internal/testleak"
	"warder/vmm"
)

// everything is a machine with each kind of device there is, whose host sides are
// in dir.
func everything(t *testing.T, dir string, code []byte) vmm.Config {
	t.Helper()
	kernel, vsocks := filepath.Join(dir, "kernel"), filepath.Join(dir, "vsock")
	disk, other := filepath.Join(dir, "disk"), filepath.Join(dir, "other")
	for _, err := range []error{
		os.WriteFile(kernel, testkernel.Raw(code), 0o644), os.MkdirAll(vsocks, 0o755),
		os.WriteFile(disk, make([]byte, 64<<10), 0o644), os.WriteFile(other, make([]byte, 64<<10), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	port, _ := net.Wire()
	return vmm.Config{
		Name: "leak", Memory: 64 << 20, Kernel: kernel, Log: slog.New(slog.DiscardHandler),
		Disks:    []vmm.Disk{{Path: disk}, {Path: other, ReadOnly: true}},
		Shares:   []vmm.Share{{Tag: "share", Dir: dir}},
		Nets:     []vmm.Net{{Port: port}},
		VsockCID: 3, VsockDir: vsocks, MemoryMax: 1 << 30, Watchdog: vmm.WatchdogKill,
		Serial:  vmm.Stream{In: strings.NewReader("input"), Out: io.Discard},
		Console: vmm.Stream{In: strings.NewReader("input"), Out: io.Discard},
	}
}

// aLife is a way in which a machine with code may come to its end.
type aLife struct {
	name string
	code []byte
	live func(t *testing.T, m *vmm.Machine)
}

var lives = []aLife{
	{"powers off", codePowerOff, func(t *testing.T, m *vmm.Machine) {
		if e := ended(t, m); e.Reason != vmm.PowerOff {
			t.Errorf("ended by %v", e)
		}
	}},
	{"crashes", codeCrash, func(t *testing.T, m *vmm.Machine) {
		if e := ended(t, m); e.Reason != vmm.Crashed {
			t.Errorf("ended by %v", e)
		}
	}},
	{"is killed", codeSpin, func(t *testing.T, m *vmm.Machine) {
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		m.Kill()
	}},
	{"is paused", codeSpin, func(t *testing.T, m *vmm.Machine) {
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		if err := m.Pause(); err != nil {
			t.Fatal(err)
		}
	}},
	{"does not stop", codeSpin, func(t *testing.T, m *vmm.Machine) {
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := m.Stop(ctx); err == nil {
			t.Error("a guest that does nothing switched off")
		}
	}},
	{"listens", codeSpin, func(t *testing.T, m *vmm.Machine) {
		if _, err := m.Vsock().Listen(1024); err != nil {
			t.Fatal(err)
		}
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
	}},
	{"never runs", codeSpin, func(*testing.T, *vmm.Machine) {}},
}

// machines is how many live one after the other.
const machines = 200

// TestNothingIsLeftBehind makes machines with all devices, one after the other,
// which end in every way, and some that cannot be made.
func TestNothingIsLeftBehind(t *testing.T) {
	testkvm.Open(t)
	dir := t.TempDir()
	round := func(i int) {
		life := lives[i%len(lives)]
		cfg := everything(t, dir, life.code)
		m, err := vmm.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		life.live(t, m)
		if err := m.Close(); err != nil {
			t.Errorf("%s: close: %v", life.name, err)
		}
		if i%len(lives) == 0 {
			cfg.Kernel = cfg.Disks[0].Path // the last step of all fails
			if m, err := vmm.New(cfg); err == nil {
				m.Close()
				t.Error("a disk was taken for a kernel")
			}
		}
	}
	for i := range lives {
		round(i) // what is made once in a process is made
	}
	before := testleak.Take(t)
	for i := range machines {
		round(i)
	}
	before.Compare(t)
}
