//go:build soak

package vmm_test

import (
	"encoding/binary"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"warder/internal/testkernel"
	"warder/internal/testkvm"
	"warder/vmm"
	"warder/vmm/cgroup"
)

// A counter is a machine whose guest does nothing but count.
type counter struct {
	*vmm.Machine
	t *testing.T
}

func count(t *testing.T, name string, weight int, most float64) counter {
	t.Helper()
	path := testkernel.RawFile(t, codeCount)
	m, err := vmm.New(vmm.Config{
		Name: name, Memory: 64 << 20, Kernel: path, Log: slog.New(slog.DiscardHandler), CPUWeight: weight, CPUMax: most,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	return counter{m, t}
}

func (c counter) value() uint64 {
	var b [8]byte
	if err := c.Memory().ReadAt(b[:], counterAddr); err != nil {
		c.t.Fatal(err)
	}
	return binary.LittleEndian.Uint64(b[:])
}

func total(cs []counter) (n uint64) {
	for _, c := range cs {
		n += c.value()
	}
	return n
}

// counted waits for counters to have come somewhere.
func counted(t *testing.T, there func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !there(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the guests do not count")
		}
	}
}

// share has two crowds count until they have counted far enough together, and
// gives how much the first did for each count of the second.
func share(a, b []counter) float64 {
	const enough = 1e9 // many of the turns in which a bound machine runs
	counted(a[0].t, func() bool {
		return !slices.ContainsFunc(slices.Concat(a, b), func(c counter) bool { return c.value() == 0 })
	})
	a0, b0 := total(a), total(b)
	counted(a[0].t, func() bool { return total(a)-a0+total(b)-b0 >= enough })
	return float64(total(a)-a0) / float64(total(b)-b0)
}

// needGroups makes sure that there is a host on which machines can have groups.
func needGroups(t *testing.T) {
	t.Helper()
	testkvm.Need(t)
	if err := cgroup.Find().Check(); err != nil {
		testkvm.Missing(t, err.Error())
	}
}

// TestCPUWeight has two machines on each CPU, of which one counts four times as
// much.
func TestCPUWeight(t *testing.T) {
	needGroups(t)
	var heavy, light []counter
	for range runtime.NumCPU() {
		heavy = append(heavy, count(t, "heavy", 400, 0))
		light = append(light, count(t, "light", 100, 0))
	}
	if got := share(heavy, light); got < 2 || got > 8 {
		t.Errorf("the heavy machines did %.2f times as much, want 4", got)
	}
	if h, l := heavy[0].CPUDelay()[0], light[0].CPUDelay()[0]; h == 0 || l <= h {
		t.Errorf("the heavy machine has waited %v for a CPU, the light one %v", h, l)
	}
}

func TestCPUMax(t *testing.T) {
	testkvm.Need(t)
	bound, free := count(t, "bound", 0, 0.2), count(t, "free", 0, 0)
	if got := share([]counter{bound}, []counter{free}); got < 0.05 || got > 0.45 {
		t.Errorf("the bound machine did %.2f times as much, want 0.2", got)
	}
	if b, f := bound.Stats().Throttled, free.Stats().Throttled; b == 0 || f != 0 {
		t.Errorf("the bound machine stood still for %v, the other one for %v", b, f)
	}
}

// TestGroupsEnd holds that a machine's group is there as long as it is, with the weight
// that it was given last.
func TestGroupsEnd(t *testing.T) {
	needGroups(t)
	list := func() []string {
		found, err := filepath.Glob(filepath.Join(cgroup.Find().Dir, "warder-*-grouped-*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	groups := func() int { return len(list()) }
	c := count(t, "grouped", 50, 0)
	if n := groups(); n != 1 {
		t.Errorf("%d groups while it runs", n)
	}
	if err := c.SetCPUWeight(300); err != nil {
		t.Error(err)
	}
	for _, dir := range list() {
		if b, err := os.ReadFile(filepath.Join(dir, "cpu.weight")); err != nil || string(b) != "300\n" {
			t.Errorf("weight %q, %v", b, err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := c.SetCPUWeight(100); err == nil {
		t.Error("a machine that has ended has a weight")
	}
	if n := groups(); n != 0 {
		t.Errorf("%d groups when it is closed", n)
	}
}
