package vmm_test

import (
	"bytes"
	"math"
	"testing"

	"warder/devices/guestmem"
	"warder/internal/testkvm"
)

// TestWhatTheHostKeepsStays has the guest's whole memory be declared free, as its
// balloon could.
func TestWhatTheHostKeepsStays(t *testing.T) {
	m := raw(t, codeSpin)
	p, err := m.Watch(func(guestmem.Addr) {})
	if err != nil {
		testkvm.Missing(t, "write protection: "+err.Error())
	}
	base := m.Memory().Regions()[0].Base
	protected, hooked, other := base+32<<20, base+33<<20, base+34<<20
	mark := bytes.Repeat([]byte{0x5a}, 16)
	for _, a := range []guestmem.Addr{protected, hooked, other} {
		if err := m.Memory().WriteAt(mark, a); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Protect(protected+8, 1); err != nil {
		t.Fatal(err)
	}
	err = m.WithVCPUsStopped(func() error {
		return m.VCPU(0).WriteVirtual(uint64(hooked), mark) // virtual addresses are physical ones here
	})
	if err != nil {
		t.Fatal(err)
	}
	left := func(a guestmem.Addr) bool {
		t.Helper()
		got := make([]byte, len(mark))
		if err := m.Memory().ReadAt(got, a); err != nil {
			t.Fatal(err)
		}
		return bytes.Equal(got, mark)
	}
	discard := func() {
		t.Helper()
		if _, err := m.Memory().Discard(0, math.MaxUint64); err != nil {
			t.Fatal(err)
		}
	}
	discard()
	if !left(protected) || !left(hooked) || left(other) {
		t.Errorf("left: protected page %v, page with a hook %v, any other page %v", left(protected), left(hooked), left(other))
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	discard()
	if left(protected) {
		t.Error("a page stays after its protection has ended")
	}
}
