package linuxamd64

import (
	"cmp"
	"fmt"
	"slices"

	"warder/boot"
)

// What Setup itself puts below 640 KiB, where no kernel is. Linux copies or
// discards all of it before it uses that memory.
const (
	gdtAddr       = 0x500
	seedAddr      = 0x1000
	startInfoAddr = 0x6000
	bootParamAddr = 0x7000
	stackTop      = 0x9000
	pageTableAddr = 0x9000
	cmdlineAddr   = 0x20000
	cmdlineMax    = 0x10000

	lowEnd  = 0xa0000  // conventional memory ends here ...
	highMem = 0x100000 // ... and goes on here; VGA and firmware are between

	pageSize = 4096
)

// Types of memory in the e820 map and in PVH's, which took them over (ACPI 6.5,
// table 15.9).
const (
	memoryRAM  = 1
	memoryACPI = 3
)

type mapEntry struct {
	boot.Range
	kind uint32
}

// memoryMap is the guest's RAM without the hole of the first megabyte and
// without the tables.
func memoryMap(ram []boot.Range, tables boot.Range) []mapEntry {
	var m []mapEntry
	for _, r := range ram {
		m = append(m, mapEntry{r, memoryRAM})
	}
	m = without(m, boot.Range{Base: lowEnd, Size: highMem - lowEnd})
	m = append(without(m, tables), mapEntry{tables, memoryACPI})
	slices.SortFunc(m, func(a, b mapEntry) int { return cmp.Compare(a.Base, b.Base) })
	return m
}

// without cuts hole out of the ranges.
func without(m []mapEntry, hole boot.Range) []mapEntry {
	var out []mapEntry
	for _, e := range m {
		if below := min(e.End(), hole.Base); below > e.Base {
			out = append(out, mapEntry{boot.Range{Base: e.Base, Size: below - e.Base}, e.kind})
		}
		if above := max(e.Base, hole.End()); above < e.End() {
			out = append(out, mapEntry{boot.Range{Base: above, Size: e.End() - above}, e.kind})
		}
	}
	return out
}

// checkRAM refuses memory that the layout cannot be put into.
func checkRAM(ram []boot.Range) error {
	if len(ram) == 0 || ram[0].Base != 0 || ram[0].Size < 2*highMem {
		return fmt.Errorf("memory has to begin at 0 with at least %d MiB", 2*highMem>>20)
	}
	if len(ram) > e820Max-4 {
		return fmt.Errorf("%d ranges of memory: at most %d", len(ram), e820Max-4)
	}
	for i, r := range ram {
		if r.Base+r.Size < r.Base || i > 0 && r.Base < ram[i-1].End() {
			return fmt.Errorf("memory ranges are not in ascending order at %#x", r.Base)
		}
	}
	return nil
}

// checkKernel refuses a kernel that does not fit the memory.
func checkKernel(k *boot.Kernel, ram boot.Range) (used boot.Range, err error) {
	if k.Arch != "amd64" {
		return used, fmt.Errorf("a kernel for %s on an amd64 machine", k.Arch)
	}
	if len(k.Segments) == 0 {
		return used, fmt.Errorf("an empty kernel")
	}
	used = boot.Range{Base: k.Segments[0].Addr, Size: k.Size}
	for _, s := range k.Segments {
		if s.Addr < used.Base || s.Addr-used.Base > used.Size || uint64(len(s.Data)) > used.Size-(s.Addr-used.Base) {
			return used, fmt.Errorf("kernel segment at %#x is outside of the kernel", s.Addr)
		}
	}
	if used.Base < highMem {
		return used, fmt.Errorf("a kernel that wants to be at %#x: has to be above 1 MiB", used.Base)
	}
	if used.End() < used.Base || used.End() > ram.End() {
		return used, fmt.Errorf("the kernel needs the %d MiB from %d MiB, memory ends at %d MiB: give the guest more",
			used.Size>>20, used.Base>>20, ram.End()>>20)
	}
	return used, nil
}

// placeInitrd finds size bytes for the initramfs as high as possible in the
// first range that has them, which leaves low memory to those who need it.
func placeInitrd(size uint64, ram []boot.Range, kernel, tables boot.Range) (boot.Range, error) {
	if size == 0 {
		return boot.Range{}, nil
	}
	for i, r := range ram {
		floor := r.Base
		if i == 0 {
			floor = max(kernel.End(), tables.End(), highMem)
		}
		if r.End() < size {
			continue
		}
		if base := (r.End() - size) &^ (pageSize - 1); base >= floor {
			return boot.Range{Base: base, Size: size}, nil
		}
	}
	return boot.Range{}, fmt.Errorf("an initramfs of %d MiB does not fit into the memory beside the kernel: give the guest more",
		size>>20)
}

// initrdSegments places the parts of the initramfs. Parts are padded to 4
// bytes, which is where the kernel looks for the next one.
func initrdSegments(parts [][]byte, at boot.Range) (segments []boot.Segment) {
	addr := at.Base
	for _, p := range parts {
		segments = append(segments, boot.Segment{Addr: addr, Data: p})
		addr += align4(uint64(len(p)))
	}
	return segments
}

func initrdSize(parts [][]byte) (n uint64) {
	for _, p := range parts {
		n += align4(uint64(len(p)))
	}
	return n
}

func align4(n uint64) uint64 { return (n + 3) &^ 3 }
