package kvm_test

import (
	"testing"

	"warder/internal/testkvm"
	"warder/kvm"
)

// storeGuest stores EAX at RBX and then writes to port 0x10, again and again.
func storeGuest(t *testing.T, options ...func(*kvm.VM)) *testkvm.Guest {
	t.Helper()
	g := testkvm.NewGuest(t, []byte{
		0x89, 0x03, // loop: mov [rbx], eax
		0xe6, 0x10, //       out 0x10, al
		0xeb, 0xfa, //       jmp loop
	}, options...)
	g.LongMode(t)
	return g
}

func setStore(t *testing.T, g *testkvm.Guest, addr uint64, value uint32) {
	t.Helper()
	r, err := g.CPU.GetRegs()
	if err != nil {
		t.Fatal(err)
	}
	r.RBX, r.RAX = addr, uint64(value)
	g.SetRegs(t, r)
}

func store(t *testing.T, g *testkvm.Guest, addr uint64) {
	t.Helper()
	storeValue(t, g, addr, 1)
}

// storeValue does one store that does not exit.
func storeValue(t *testing.T, g *testkvm.Guest, addr uint64, value uint32) {
	t.Helper()
	setStore(t, g, addr, value)
	g.Run(t, kvm.ExitIO)
}

// storeExits does one store that exits.
func storeExits(t *testing.T, g *testkvm.Guest, addr uint64, value uint32) kvm.MMIO {
	t.Helper()
	setStore(t, g, addr, value)
	m := g.Run(t, kvm.ExitMMIO).MMIO()
	m.Data = append([]byte(nil), m.Data...)
	g.Run(t, kvm.ExitIO)
	return m
}
