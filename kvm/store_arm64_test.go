package kvm_test

import (
	"testing"

	"warder/internal/testkvm"
	"warder/kvm"
)

// pauseAt is where storeGuest's store that only exits goes.
const pauseAt = 0x09000000

// storeGuest stores W0 at X1 and then to pauseAt, again and again.
func storeGuest(t *testing.T, options ...func(*kvm.VM)) *testkvm.Guest {
	t.Helper()
	g := testkvm.NewGuest(t, code(
		0xb9000020, // loop: str w0, [x1]
		0xb900005f, //       str wzr, [x2]
		0x17fffffe, //       b loop
	), options...)
	g.SetReg(t, kvm.RegX(2), pauseAt)
	return g
}

func store(t *testing.T, g *testkvm.Guest, addr uint64) {
	t.Helper()
	storeValue(t, g, addr, 1)
}

// storeValue does one store that does not exit.
func storeValue(t *testing.T, g *testkvm.Guest, addr uint64, value uint32) {
	t.Helper()
	g.SetReg(t, kvm.RegX(0), uint64(value))
	g.SetReg(t, kvm.RegX(1), addr)
	pause(t, g)
}

func pause(t *testing.T, g *testkvm.Guest) {
	t.Helper()
	if m := g.Run(t, kvm.ExitMMIO).MMIO(); m.Addr != pauseAt {
		t.Fatalf("a write to %#x exits", m.Addr)
	}
}

// storeExits does one store that exits.
func storeExits(t *testing.T, g *testkvm.Guest, addr uint64, value uint32) kvm.MMIO {
	t.Helper()
	g.SetReg(t, kvm.RegX(0), uint64(value))
	g.SetReg(t, kvm.RegX(1), addr)
	m := g.Run(t, kvm.ExitMMIO).MMIO()
	m.Data = append([]byte(nil), m.Data...)
	pause(t, g)
	return m
}
