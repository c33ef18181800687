package vmm_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/devices/guestmem"
	"warder/devices/virtio/mmio"
	"warder/devices/virtio/virtqtest"
	"warder/vmm"
)

// ringBatch is how many chains a ringer has the device serve for one doorbell.
const ringBatch = attackQueue

// ringing is a machine whose guest does nothing but have its entropy device work.
func ringing(t *testing.T, most float64) *vmm.Machine {
	t.Helper()
	const d = 0 // the entropy device of a machine without disks, shares and networks
	at := queueAt(d, 0)
	code := ringer(attackScript, uint32(at)+availOffset+2, uint32(at)+usedOffset+2, uint32(register(d, mmio.QueueNotify)))
	m := rawMachine(t, code, vmm.Config{CPUMax: most})
	if name := m.Stats().Devices[d].Name; name != "rng" {
		t.Fatalf("its first device is %s", name)
	}
	s := &script{devices: 1, index: map[[2]int]uint16{}}
	for _, status := range []uint32{0, virtqtest.StatusAcknowledge, virtqtest.StatusAcknowledge | virtqtest.StatusDriver} {
		s.put(d, virtqtest.RegStatus, status)
	}
	for half := range uint32(2) {
		s.put(d, virtqtest.RegDriverSel, half)
		s.put(d, virtqtest.RegDriverFeatures, half) // VERSION_1 alone
	}
	s.put(d, virtqtest.RegStatus, statusRunning&^virtqtest.StatusDriverOK)
	s.place(d, 0, at)
	for i := range uint64(ringBatch) {
		desc, buffer := at+16*i, arena(0)+arenaBuffers+bufferSize*i
		s.store(desc, uint32(buffer))
		s.store(desc+4, 0)
		s.store(desc+8, bufferSize)
		s.store(desc+12, virtqtest.Write)
	}
	for i := uint32(0); i < ringBatch; i += 2 { // heads, two in a word
		s.store(at+availOffset+4+2*uint64(i), i|(i+1)<<16)
	}
	s.put(d, virtqtest.RegStatus, statusRunning)
	s.store(0, 0)
	if err := m.Memory().WriteAt(s.steps, guestmem.Addr(attackScript)); err != nil {
		t.Fatal(err)
	}
	return m
}

// processTime is the CPU time of all threads of this process, those that are gone too.
func processTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// TestDevicesCountForCPUMax has a guest keep a device at work, whose time counts.
func TestDevicesCountForCPUMax(t *testing.T) {
	// With a half, what is used before a late pacer looks is missing for no longer than that.
	const most = 0.5
	m := ringing(t, most)
	began := time.Now()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	// What is used too much is missing later: this comes to be, however slow the host is.
	const enough = 5 * time.Millisecond
	for {
		s := m.Stats()
		used := s.DeviceTime
		for _, vcpu := range s.CPUTime {
			used += vcpu
		}
		if all := processTime(t); used > all {
			t.Fatalf("%v used of the %v of all", used, all)
		}
		took := time.Since(began)
		share := float64(used) / float64(took)
		if s.DeviceTime >= enough && s.Throttled > 0 && share < 1.2*most {
			t.Logf("%.3f CPUs used: %v by devices of %v; it stood still for %v", share, s.DeviceTime, used, s.Throttled)
			break
		}
		if took > 5*time.Minute || s.Devices[0].Failures > 0 {
			t.Fatalf("%.3f CPUs used, want %v: %v by devices of %v; it stood still for %v: %+v", share, most, s.DeviceTime, used, s.Throttled, s.Devices[0])
		}
		// It can be paused while it stands still.
		if err := m.Pause(); err != nil {
			t.Fatal(err)
		}
		if err := m.Resume(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestUnboundIsNotMeasured has devices work for a guest that may use as much as it likes.
func TestUnboundIsNotMeasured(t *testing.T) {
	m := ringing(t, 0)
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Minute); m.Stats().Devices[0].Chains == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the device does nothing: %+v", m.Stats().Devices[0])
		}
	}
	if s := m.Stats(); s.DeviceTime != 0 || s.Throttled != 0 {
		t.Errorf("%v by devices, stood still for %v", s.DeviceTime, s.Throttled)
	}
}
