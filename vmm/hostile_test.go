package vmm_test

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/devices/guestmem"
	"warder/devices/virtio/net"
	"warder/internal/testguest"
	"warder/internal/testleak"
	"warder/vmm"
)

// Variables by which a run of hostile guests is made longer, or repeated: a
// duration, and the seed that an earlier one told.
const (
	hostileTime = "WARDER_HOSTILE_TIME"
	hostileSeed = "WARDER_HOSTILE_SEED"
)

const (
	attackCID = 77
	// attackFor is how long hostile guests are at it unless told otherwise, and
	// attackerFor how long one of them is.
	attackFor   = 8 * time.Second
	attackerFor = 2 * time.Second
	// maxAttackers is how many there are for as long as some device was not reached,
	// where all is slow.
	maxAttackers = 30
	// attackExits is what each vCPU has done at least when it has attacked.
	attackExits = 1000
	// maxHeap bounds what a hostile guest makes the host allocate, in bytes.
	maxHeap = 256 << 20
)

// logged counts what is logged.
type logged struct{ n atomic.Int64 }

func (l *logged) Handle(context.Context, slog.Record) error { l.n.Add(1); return nil }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler        { return l }
func (l *logged) WithGroup(string) slog.Handler             { return l }
func (l *logged) Enabled(context.Context, slog.Level) bool  { return true }

// chatter is a person who types without end.
type chatter struct{}

func (chatter) Read(p []byte) (int, error) { return copy(p, "blah "), nil }

// attackers is how many vCPUs a hostile guest has.
func attackers() int { return min(attackCPUs, runtime.NumCPU()) }

// exitCounts counts exits by vCPU.
type exitCounts [attackCPUs]atomic.Uint64

// attack has one hostile guest run for a while, or until it has ended itself, and
// says what it did.
func attack(t *testing.T, seed uint64, d time.Duration, log slog.Handler, exits *exitCounts) vmm.Stats {
	t.Helper()
	dir := t.TempDir()
	disk, share := filepath.Join(dir, "disk"), filepath.Join(dir, "share")
	if err := os.WriteFile(disk, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(share, 0o700); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(seed, 0))
	port, _ := net.Wire()
	cfg := vmm.Config{
		Log: slog.New(log), CPUs: attackers(), MemoryMax: 2 * attackMemory, Watchdog: vmm.WatchdogLog,
		Disks: []vmm.Disk{{Path: disk}}, Shares: []vmm.Share{{Tag: "share", Dir: share}},
		Nets: []vmm.Net{{Port: port}}, VsockCID: attackCID, Ports: []vmm.Port{{Name: "data"}},
		Serial:  vmm.Stream{In: chatter{}, Out: io.Discard},
		Console: vmm.Stream{In: chatter{}, Out: io.Discard},
	}
	m := rawMachine(t, attacker(scriptLength), cfg)
	devices := len(m.Stats().Devices)
	put := func(p []byte, at uint64) {
		if err := m.Memory().WriteAt(p, guestmem.Addr(at)); err != nil {
			t.Fatal(err)
		}
	}
	for cpu := range attackers() {
		put(newScript(random, devices), uint64(scriptOf(cpu)))
	}
	put(secondAttacker())
	for i := range devices {
		put(buffers(random), arena(i)+arenaBuffers)
	}
	m.Observe(func(e vmm.ExitEvent) { exits[e.VCPU].Add(1) })
	l, err := m.Vsock().Listen(3)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	end := time.After(d)
	for attacking := true; attacking; {
		select {
		case <-m.Done():
			attacking = false
		case <-end:
			m.Kill()
		case <-time.After(50 * time.Millisecond):
			// What the host does to devices meanwhile.
			m.ConsoleSize(uint16(random.IntN(200)), uint16(random.IntN(60)))
			if m.Pause() == nil && m.Resume() == nil { // all of it fails at the end
				_ = m.SetMemory(random.Uint64N(2 * attackMemory))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			if c, err := m.Vsock().Dial(ctx, random.Uint32N(8)); err == nil {
				c.Close()
			}
			cancel()
		}
	}
	if e := m.Wait(); e.Reason == vmm.Failed {
		t.Errorf("seed %#x: a guest made the host's side fail: %v\n%v", seed, e, e.Report)
	}
	stats := m.Stats()
	if err := m.Close(); err != nil {
		t.Errorf("seed %#x: close: %v", seed, err)
	}
	return stats
}

// attackAll has one hostile guest after the other for as long as it is told, and
// says what became of it all.
func attackAll(t *testing.T) {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(hostileSeed); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 0, 64); err != nil {
			t.Fatal(err)
		}
	}
	d := attackFor
	if text := os.Getenv(hostileTime); text != "" {
		var err error
		if d, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%#x", hostileSeed, seed)

	log := new(logged)
	var chains, resets, failures = map[string]uint64{}, map[string]uint64{}, map[string]uint64{}
	var peak uint64
	var exits exitCounts
	reached := func() bool {
		for cpu := range attackers() {
			if exits[cpu].Load() < attackExits {
				return false
			}
		}
		for name := range failures {
			if chains[name] == 0 || failures[name] == 0 {
				return false
			}
		}
		return true
	}
	guests := 0
	for begin := time.Now(); guests < 2 || time.Since(begin) < d || !reached() && guests < maxAttackers; guests++ {
		survived := t.Run("attacker", func(t *testing.T) {
			for _, dev := range attack(t, seed+uint64(guests), min(d, attackerFor), log, &exits).Devices {
				chains[dev.Name] += dev.Chains
				resets[dev.Name] += dev.Resets
				failures[dev.Name] += dev.Failures
			}
		})
		if !survived {
			return
		}
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		peak = max(peak, mem.HeapInuse)
	}
	t.Logf("%d guests; exits of vCPUs %d and %d; answered %v, resets %v, failures %v; heap %d MiB at most", guests, exits[0].Load(), exits[1].Load(), chains, resets, failures, peak>>20)
	if !reached() {
		t.Error("some device was not reached, or not by some vCPU")
	}
	if peak > maxHeap {
		t.Errorf("the host's heap had %d MiB", peak>>20)
	}
	// A line a device and kind every ten seconds, and a few of each machine.
	if most := int64(guests * (2*len(resets) + 10) * (1 + int(attackerFor/(10*time.Second)))); log.n.Load() > most {
		t.Errorf("%d guests had %d lines logged, want at most %d", guests, log.n.Load(), most)
	}
}

// TestHostileGuests has guests do to their devices whatever comes to mind. When they
// are gone, nothing of them is left.
func TestHostileGuests(t *testing.T) {
	before := testleak.Take(t)
	attackAll(t)
	before.Compare(t)
}

// works uses its disk, its share and its entropy device, and checks what it reads,
// until there is a file called stop in the share.
var works = testguest.Register("works", func(g *testguest.Guest) {
	g.Check(os.MkdirAll("/share", 0o755))
	g.Check(unix.Mount("work", "/share", "virtiofs", 0, ""))
	disk, err := os.OpenFile("/dev/vda", os.O_RDWR|os.O_SYNC, 0)
	g.Check(err)
	random, err := os.Open("/dev/hwrng")
	g.Check(err)
	wrote, read := make([]byte, 16<<10), make([]byte, 16<<10)
	for round := 1; ; round++ {
		_, err := io.ReadFull(random, wrote)
		g.Check(err)
		off := int64(round%60) * int64(len(wrote))
		_, err = disk.WriteAt(wrote, off)
		g.Check(err)
		_, err = disk.ReadAt(read, off)
		g.Check(err)
		g.Check(os.WriteFile("/share/file", read, 0o644))
		back, err := os.ReadFile("/share/file")
		g.Check(err)
		if string(back) != string(wrote) {
			g.Fatal("round ", round, " read something else than it wrote")
		}
		if _, err := os.Stat("/share/stop"); err == nil {
			g.Report("rounds", round)
			return
		}
		if round == 1 {
			g.Report("working", nil)
		}
	}
})

// TestHostileGuestsBesideOthers has a guest work beside hostile ones.
func TestHostileGuestsBesideOthers(t *testing.T) {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	share := filepath.Join(dir, "share")
	if err := os.Mkdir(share, 0o700); err != nil {
		t.Fatal(err)
	}
	r := works.Start(t, vmm.Config{Disks: []vmm.Disk{{Path: disk}}, Shares: []vmm.Share{{Tag: "work", Dir: share}}})
	r.Event("working")
	before := r.Stats().Devices[0].Chains
	attackAll(t)
	if during := r.Stats().Devices[0].Chains - before; during == 0 {
		t.Error("the guest beside did nothing meanwhile")
	}
	if err := os.WriteFile(filepath.Join(share, "stop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rounds of work", testguest.Get[int](r, "rounds"))
	r.Finish()
	for _, dev := range r.Stats().Devices {
		if dev.Failures != 0 {
			t.Errorf("%s of the guest beside failed %d times", dev.Name, dev.Failures)
		}
	}
}
