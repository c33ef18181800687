package introspect

import (
	"context"
	"errors"
	"fmt"
)

// SymbolInfo is a symbol of the running kernel or of one of its modules.
type SymbolInfo struct {
	Addr   Pointer `json:"addr"`
	Type   string  `json:"type"` // letter of nm(1)
	Name   string  `json:"name"`
	Module string  `json:"module,omitempty"`
}

const maxModuleSymbols = 1 << 17

// AllSymbols hands the symbols of the kernel and then of its modules to each,
// where they are in the running guest, until it returns an error.
func (l *Live) AllSymbols(ctx context.Context, each func(SymbolInfo) error) error {
	for s := range l.symbols.All() {
		if err := each(SymbolInfo{Pointer(l.running(s)), string(s.Type), s.Name, ""}); err != nil {
			return err
		}
	}
	modules, err := l.Modules(ctx)
	if err != nil && !errors.Is(err, ErrIncomplete) {
		return err
	}
	incomplete := err
	q := l.ask(ctx) // one for all modules, so that its bounds are those of the answer
	for _, m := range modules {
		// The table is replaced once, when the module has been set up.
		table := q.at("module", uint64(m.Module)).to("kallsyms", "mod_kallsyms")
		n, symtab, strtab := table.uint("num_symtab"), table.uint("symtab"), table.uint("strtab")
		if q.err == nil && n > maxModuleSymbols {
			q.fail(fmt.Errorf("%w: a module of %d symbols", ErrWalk, n))
		}
		types := table.uint("typetab")
		for i := uint64(1); i < n && q.err == nil; i++ {
			const size = 24 // Elf64_Sym: name u32, info, other, section u16, value, size
			var p [size]byte
			q.memory(p[:], symtab+i*size)
			var typ [1]byte
			q.memory(typ[:], types+i)
			if q.err != nil {
				break
			}
			name, err := q.cstring(strtab+uint64(le.Uint32(p[:])), maxText)
			if err != nil {
				q.fail(err)
				break
			}
			if name == "" || name[0] == '$' {
				continue
			}
			if err := each(SymbolInfo{Pointer(le.Uint64(p[8:])), string(typ[0]), name, m.Name}); err != nil {
				return err
			}
		}
		if err := q.take(); err != nil {
			if ctx.Err() != nil {
				return err
			}
			incomplete = fmt.Errorf("introspect: %w: symbols of module %s: %w", ErrIncomplete, m.Name, err)
		}
	}
	return incomplete
}

// running is where a symbol is in the running kernel. Offsets of per-CPU
// variables are not moved.
func (g *Guest) running(s Symbol) uint64 {
	if g.arch == "amd64" && s.Addr < startKernelMap {
		return s.Addr
	}
	return s.Addr + g.slide
}
