package introspect

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
)

// Symbol is one line of the kernel's symbol table.
type Symbol struct {
	Name string
	// Type is the letter of nm(1): T and t for code, D and d for data, A for
	// an absolute value (per-CPU offsets on x86), and so on.
	Type byte
	// Addr is the link address: KASLR's slide is not in it.
	Addr uint64
}

// Symbols is a kernel's own symbol table, its addresses as linked.
type Symbols struct {
	sorted []Symbol // in the order of the table: by address
	byName map[string]int32
}

func newSymbols(sorted []Symbol) *Symbols {
	s := &Symbols{sorted: sorted, byName: make(map[string]int32, len(sorted))}
	for i, sym := range sorted {
		if _, dup := s.byName[sym.Name]; !dup {
			s.byName[sym.Name] = int32(i)
		}
	}
	return s
}

// Len is the number of symbols.
func (s *Symbols) Len() int { return len(s.sorted) }

// All yields every symbol in the table's order.
func (s *Symbols) All() iter.Seq[Symbol] { return slices.Values(s.sorted) }

// Lookup gives the first symbol of that name.
func (s *Symbols) Lookup(name string) (Symbol, bool) {
	i, ok := s.byName[name]
	if !ok {
		return Symbol{}, false
	}
	return s.sorted[i], true
}

// Addr is the link address of the first symbol of that name.
func (s *Symbols) Addr(name string) (uint64, error) {
	sym, ok := s.Lookup(name)
	if !ok {
		return 0, fmt.Errorf("the kernel has no symbol %s", name)
	}
	return sym.Addr, nil
}

// after is how many bytes it is from a link address to the next symbol, 0 for
// the last.
func (s *Symbols) after(addr uint64) uint64 {
	i, _ := slices.BinarySearchFunc(s.sorted, addr+1, func(sym Symbol, a uint64) int { return cmp.Compare(sym.Addr, a) })
	if i == len(s.sorted) {
		return 0
	}
	return s.sorted[i].Addr - addr
}

// Near names the symbol that a link address lies in, as "name+0x10"; the
// number itself where no symbol comes before it.
func (s *Symbols) Near(addr uint64) string {
	i, found := slices.BinarySearchFunc(s.sorted, addr, func(sym Symbol, a uint64) int {
		switch {
		case sym.Addr < a:
			return -1
		case sym.Addr > a:
			return 1
		}
		return 0
	})
	switch {
	case found:
		return s.sorted[i].Name
	case i == 0:
		return fmt.Sprintf("%#x", addr)
	}
	return fmt.Sprintf("%s+%#x", s.sorted[i-1].Name, addr-s.sorted[i-1].Addr)
}
