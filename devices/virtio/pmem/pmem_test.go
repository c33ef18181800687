package pmem_test

import (
	"encoding/binary"
	"log/slog"
	"sync/atomic"
	"syscall"
	"testing"

	"warder/devices/virtio/pmem"
	"warder/devices/virtio/virtqtest"
)

var quiet = slog.New(slog.DiscardHandler)

// ask sends a request and returns its result.
func ask(d *virtqtest.Driver, kind uint32) uint32 {
	d.Rings[0].Add(virtqtest.Buffer{Data: binary.LittleEndian.AppendUint32(nil, kind)}, virtqtest.Buffer{Room: 4})
	a := d.Answer(0)
	return binary.LittleEndian.Uint32(a.Room)
}

func TestConfig(t *testing.T) {
	d := virtqtest.NewDriver(t, pmem.New(pmem.Config{Base: 0x12_3456_0000, Size: 0xabc_0000_0000, Log: quiet}))
	for off, want := range map[uint64]uint32{0: 0x3456_0000, 4: 0x12, 8: 0, 12: 0xabc, 16: 0} {
		if got := d.Get(virtqtest.RegConfig + off); got != want {
			t.Errorf("at %d the configuration has %#x, want %#x", off, got, want)
		}
	}
}

func TestFlush(t *testing.T) {
	var syncs atomic.Int32
	var broken atomic.Bool
	dev := pmem.New(pmem.Config{Log: quiet, Sync: func() error {
		syncs.Add(1)
		if broken.Load() {
			return syscall.EIO
		}
		return nil
	}})
	d := virtqtest.NewDriver(t, dev)
	d.Start(0)
	if got := ask(d, 0); got != 0 || syncs.Load() != 1 {
		t.Errorf("flush: %#x, %d syncs", got, syncs.Load())
	}
	if got := ask(d, 1); got == 0 || syncs.Load() != 1 {
		t.Errorf("an unknown request: %#x, %d syncs", got, syncs.Load())
	}
	broken.Store(true)
	if got := ask(d, 0); got != 0xffff_ffff {
		t.Errorf("a flush that failed: %#x", got)
	}
	if got := dev.Stats(); got != (pmem.Stats{Flushes: 2, Errors: 1}) {
		t.Errorf("statistics: %+v", got)
	}
}

func TestReadOnlyHasNothingToFlush(t *testing.T) {
	d := virtqtest.NewDriver(t, pmem.New(pmem.Config{Log: quiet}))
	d.Start(0)
	if got := ask(d, 0); got != 0 {
		t.Errorf("flush: %#x", got)
	}
}

func TestMalformedRequests(t *testing.T) {
	for name, bufs := range map[string][]virtqtest.Buffer{
		"short":   {{Data: make([]byte, 3)}, {Room: 4}},
		"no room": {{Data: make([]byte, 4)}, {Room: 3}},
	} {
		d := virtqtest.NewDriver(t, pmem.New(pmem.Config{Log: quiet}))
		d.Start(0)
		d.Rings[0].Add(bufs...)
		d.Kick(0)
		d.NeedsReset()
		d.Start(0)
		if got := ask(d, 0); got != 0 {
			t.Errorf("%s: after a reset: %#x", name, got)
		}
	}
}

func FuzzDevice(f *testing.F) {
	f.Add([]byte{0, 0, 1, 4, 0, 0, 0, 0, 1, 1})
	f.Add([]byte{0, 0, 1, 4, 1, 0, 0, 0, 1, 1, 13, 0, 1, 0, 0, 1, 2, 0, 0})
	f.Fuzz(func(t *testing.T, program []byte) {
		d := virtqtest.Play(t, pmem.New(pmem.Config{Sync: func() error { return nil }, Log: quiet}), program)
		if got := ask(d, 0); got != 0 {
			t.Errorf("afterwards a flush has the result %#x", got)
		}
	})
}
