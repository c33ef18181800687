package vmm

import (
	"os"

	"golang.org/x/sys/unix"

	"warder/devices/guestmem"
)

// hugePages backs size bytes of RAM from base on, which the guest is about to
// use in any case, by huge pages of the host. Each page that a guest touches
// first is an exit and a page of the tables that translate its addresses; for a
// kernel's image those are a sixth of all instructions of its boot.
//
// The rest of RAM is left to pages of 4 KiB, of which the host gives a guest no
// more than it touches. A host that has no huge page to give, or no
// MADV_COLLAPSE (Linux before 6.1), gives small ones here, too.
func (m *Machine) hugePages(base guestmem.Addr, size uint64) {
	first := base &^ (guestmem.HugePage - 1)
	end := (base + guestmem.Addr(size) + guestmem.HugePage - 1) &^ (guestmem.HugePage - 1)
	for _, s := range m.slots {
		from, to := max(first, s.base), min(end, s.end()&^(guestmem.HugePage-1))
		if from >= to {
			continue
		}
		// The kernel does not make a huge page of nothing but holes.
		for at := from; at < to; at += guestmem.HugePage {
			_ = unix.Madvise(s.mem[at-s.base:][:os.Getpagesize()], unix.MADV_POPULATE_WRITE)
		}
		// One call: each waits for all of the host's CPUs.
		_ = unix.Madvise(s.mem[from-s.base:to-s.base], unix.MADV_COLLAPSE)
	}
}
