package introspect

import (
	"context"
	"fmt"
	"io"

	"warder/devices/guestmem"
	"warder/vmm/vmcore"
)

// maxInfo bounds the kernel's VMCOREINFO, which is less than a page.
const maxInfo = 64 << 10

// Dump writes the machine's memory with the registers of its vCPUs as an ELF
// core file that crash(8) and gdb(1) open. Pause the machine before for a
// picture of one moment; else it is written while the guest runs.
func (l *Live) Dump(ctx context.Context, w io.Writer) error {
	core, err := Core(l.m, l.arch)
	if err != nil {
		return err
	}
	q := l.ask(ctx)
	// A kernel without the note is dumped without it.
	if at, size := q.word(q.symbol("vmcoreinfo_data")), q.word(q.symbol("vmcoreinfo_size")); q.err == nil && size <= maxInfo {
		info := make([]byte, size)
		if q.memory(info, at); q.err == nil {
			core.Info = info
		}
	}
	q.take()
	core.Mapped = l.mapped()
	if err := core.Write(cancelled{ctx, w}); err != nil {
		return fmt.Errorf("introspect: dump: %w", err)
	}
	return nil
}

// Core gathers what a core file of a machine has, whatever runs in it. Its
// Write makes the file.
func Core(m Machine, arch string) (*vmcore.Core, error) {
	core := &vmcore.Core{Arch: arch, Memory: m.Memory()}
	for id := range m.CPUs() {
		err := m.OnCPU(id, func(c CPU) error {
			regs := make(map[string]uint64)
			for _, r := range c.Report().Registers {
				regs[r.Name] = r.Value
			}
			core.CPUs = append(core.CPUs, regs)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("introspect: dump: vCPU %d: %w", id, err)
		}
	}
	return core, nil
}

// mapped finds where the kernel has its image and all of memory, for tools that
// read by the kernel's addresses.
func (l *Live) mapped() []vmcore.Mapping {
	var all []vmcore.Mapping
	start, err1 := l.Addr("_text")
	end, err2 := l.Addr("_end")
	if err1 == nil && err2 == nil && end > start && end-start < 1<<30 {
		if m, err := l.space.Translate(l.m.Memory(), start); err == nil {
			all = append(all, vmcore.Mapping{Virtual: start, Physical: m.Addr, Size: end - start})
		}
	}
	base, ok := l.linear()
	if !ok {
		return all
	}
	for _, r := range l.m.Memory().Regions() {
		va := base + uint64(r.Base)
		if m, err := l.space.Translate(l.m.Memory(), va+uint64(len(r.Bytes))-8); err == nil && m.Addr == r.Base+guestmem.Addr(len(r.Bytes)-8) {
			all = append(all, vmcore.Mapping{Virtual: va, Physical: r.Base, Size: uint64(len(r.Bytes))})
		}
	}
	return all
}

// linear is the address at which the kernel has physical address 0 mapped.
func (l *Live) linear() (uint64, bool) {
	q := l.ask(context.Background())
	switch l.arch {
	case "amd64":
		if at := q.word(q.symbol("page_offset_base")); q.err == nil {
			return at, true
		}
		return 0xffff_8880_0000_0000, true // without KASLR (Documentation/arch/x86/x86_64/mm.rst)
	case "arm64":
		// memstart_addr is the physical address at the start of the linear map,
		// which is at the lowest address of the kernel's half.
		at := q.word(q.symbol("memstart_addr"))
		if q.err != nil {
			return 0, false
		}
		return ^uint64(0)<<l.space.KernelBits() - at, true
	}
	return 0, false
}

// cancelled is a writer that fails when its context has ended.
type cancelled struct {
	ctx context.Context
	w   io.Writer
}

func (c cancelled) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}
