package introspect

import (
	"context"
	"fmt"
	"strings"
)

// Why an entry of a table that points to code is suspect.
const (
	OutsideText = "outside kernel text"        // nor in the code of a listed module
	NotAHandler = "not the start of a handler" // of the kind that belongs there
	Differs     = "differs between CPUs"
)

// textRanges are where code of the kernel and of its listed modules is.
type textRanges struct {
	q      *question
	kernel [2]uint64
	module []ModuleInfo
}

func (l *Live) text(ctx context.Context, q *question) textRanges {
	t := textRanges{q: q, kernel: [2]uint64{q.symbol("_stext"), q.symbol("_etext")}}
	t.module, _ = l.Modules(ctx) // without them, their code is suspect
	return t
}

// name names an address in code, and says why it is suspect if it is.
func (t *textRanges) name(addr uint64) (symbol, suspect string) {
	if addr >= t.kernel[0] && addr < t.kernel[1] {
		return t.q.Near(addr), ""
	}
	// The gates that nothing uses still lead where they did at boot, into memory
	// that has been given to others since.
	if name := t.q.Near(addr); strings.HasPrefix(name, "early_idt_handler_array") {
		return name, ""
	}
	for _, m := range t.module {
		if base := uint64(m.Base); addr >= base && addr-base < m.TextSize {
			if m.Hidden {
				return fmt.Sprintf("[%s]+%#x", m.Name, addr-base), OutsideText
			}
			return fmt.Sprintf("[%s]+%#x", m.Name, addr-base), ""
		}
	}
	if at, ok := t.trampoline(addr); ok {
		return t.q.Near(at), ""
	}
	return "", OutsideText
}

// trampoline gives the place in the kernel's text of an address in its trampoline,
// which is that text at another address: by it programs come into an arm64 kernel
// that hides itself from them (arch/arm64/kernel/entry.S, tramp_vectors).
func (t *textRanges) trampoline(addr uint64) (uint64, bool) {
	const page, most = 4096, 64 << 10
	start, err := t.q.Addr("__entry_tramp_text_start")
	if err != nil {
		return 0, false
	}
	end, err := t.q.Addr("__entry_tramp_text_end")
	if err != nil || end < start || end-start > most {
		return 0, false
	}
	space, mem := t.q.live.space, t.q.live.m.Memory()
	is, err := space.Translate(mem, addr&^(page-1))
	if err != nil {
		return 0, false
	}
	for at := start &^ (page - 1); at < end; at += page {
		if text, err := space.Translate(mem, at); err == nil && text.Addr == is.Addr {
			return at + addr%page, true
		}
	}
	return 0, false
}

// SyscallInfo is an entry of a table of system calls.
type SyscallInfo struct {
	Number  int     `json:"number"`
	ABI     string  `json:"abi"` // native, compat
	Name    string  `json:"name"`
	Handler Pointer `json:"handler"`
	Symbol  string  `json:"symbol"`
	Suspect string  `json:"suspect,omitempty"`
}

const maxSyscalls = 1024

// Syscalls lists the tables of system calls. On amd64 the kernel itself calls by
// a switch in its code since Linux 6.9; its table is read by tracers.
func (l *Live) Syscalls(ctx context.Context) ([]SyscallInfo, error) {
	q := l.ask(ctx)
	text := l.text(ctx, q)
	var all []SyscallInfo
	for _, table := range []struct{ symbol, abi string }{
		{"sys_call_table", "native"}, {"ia32_sys_call_table", "compat"}, {"compat_sys_call_table", "compat"},
	} {
		at, ok := q.symbols.Lookup(table.symbol)
		if !ok {
			if table.abi == "native" {
				q.fail(fmt.Errorf("the kernel has no symbol %s", table.symbol))
			}
			continue
		}
		p := make([]byte, 8*min(q.symbols.after(at.Addr)/8, maxSyscalls))
		q.memory(p, at.Addr+q.slide)
		for i := 0; i < len(p) && q.err == nil; i += 8 {
			s := SyscallInfo{Number: i / 8, ABI: table.abi, Handler: Pointer(le.Uint64(p[i:]))}
			s.Symbol, s.Suspect = text.name(uint64(s.Handler))
			if s.Name, ok = callName(s.Symbol); !ok && s.Suspect == "" {
				s.Suspect = NotAHandler
			}
			all = append(all, s)
		}
		for n := len(all); n > 0 && all[n-1].Handler == 0 && all[n-1].ABI == table.abi; n-- {
			all = all[:n-1] // up to the next symbol, not part of the table
		}
	}
	if err := q.take(); err != nil {
		return nil, fmt.Errorf("introspect: system calls: %w", err)
	}
	return all, nil
}

// handlerPrefixes begin the names of handlers, those that begin with another first.
var handlerPrefixes = []string{
	"__x64_compat_sys_", "__x64_sys_", "__ia32_compat_sys_", "__ia32_sys_", "__x32_compat_sys_",
	"__arm64_compat_sys_aarch32_", "__arm64_compat_sys_", "__arm64_sys_", "__do_sys_", "__se_sys_", "compat_sys_", "sys_",
}

// callName is the system call that a handler is for. It is false for what is no
// handler's first instruction.
func callName(symbol string) (string, bool) {
	for _, p := range handlerPrefixes {
		if name, ok := strings.CutPrefix(symbol, p); ok {
			return name, !strings.Contains(name, "+")
		}
	}
	return "", false
}

// VectorInfo is where a CPU goes on an exception or interrupt, or at a system
// call.
type VectorInfo struct {
	Name    string  `json:"name"` // number of the interrupt, name of the vector, or register
	Handler Pointer `json:"handler"`
	Symbol  string  `json:"symbol"`
	User    bool    `json:"user,omitempty"` // programs may raise it (amd64)
	CPUs    []int   `json:"cpus"`           // of which this holds
	Suspect string  `json:"suspect,omitempty"`
}

// Vectors lists the vectors of all vCPUs: on amd64 the IDT and LSTAR, on arm64
// the exception vectors at VBAR_EL1. What is the same on several is listed once.
func (l *Live) Vectors(ctx context.Context) ([]VectorInfo, error) {
	q := l.ask(ctx)
	text := l.text(ctx, q)
	read := map[string]func(CPU) []VectorInfo{"amd64": q.gates, "arm64": q.vectors}[l.arch]
	var all []VectorInfo
	place := make(map[string]int) // by name and handler
	variants := make(map[string]int)
	for id := range l.m.CPUs() {
		var own []VectorInfo
		err := l.m.OnCPU(id, func(c CPU) error {
			own = read(c)
			return q.take()
		})
		if err != nil {
			return nil, fmt.Errorf("introspect: vectors of vCPU %d: %w", id, err)
		}
		for _, v := range own {
			key := fmt.Sprint(v.Name, v.Handler, v.User)
			i, ok := place[key]
			if !ok {
				i = len(all)
				place[key] = i
				all = append(all, v)
			}
			all[i].CPUs = append(all[i].CPUs, id)
		}
	}
	for _, v := range all {
		// A vCPU that runs a program has its vectors elsewhere than one in the kernel.
		if _, ok := text.trampoline(uint64(v.Handler)); !ok {
			variants[v.Name]++
		}
	}
	for i := range all {
		v := &all[i]
		if v.Symbol, v.Suspect = text.name(uint64(v.Handler)); v.Suspect == "" && variants[v.Name] > 1 {
			v.Suspect = Differs
		}
	}
	return all, ctx.Err()
}

// register is a register of a vCPU by its name in reports.
func register(c CPU, name string) uint64 {
	for _, r := range c.Report().Registers {
		if r.Name == name {
			return r.Value
		}
	}
	return 0
}

// Gates of the IDT (Intel SDM volume 3A, section 6.14.1).
const (
	gates    = 256
	gateSize = 16
)

func (q *question) gates(c CPU) []VectorInfo {
	all := []VectorInfo{}
	if entry, err := c.SyscallEntry(); err == nil && entry != 0 {
		all = append(all, VectorInfo{Name: "LSTAR", Handler: Pointer(entry), User: true})
	}
	var table [gates * gateSize]byte
	q.memory(table[:], register(c, "idt"))
	for i := range gates {
		g := table[i*gateSize:]
		const present, level = 1 << 15, 3 << 13
		bits := le.Uint16(g[4:])
		if bits&present == 0 {
			continue
		}
		at := uint64(le.Uint16(g)) | uint64(le.Uint16(g[6:]))<<16 | uint64(le.Uint32(g[8:]))<<32
		all = append(all, VectorInfo{Name: fmt.Sprintf("%#02x", i), Handler: Pointer(at), User: bits&level == level})
	}
	return all
}

// arm64Vectors are the entries of a table, in its order (Arm ARM, section D1.3.1).
var arm64Vectors = func() (names []string) {
	for _, from := range []string{"EL1 with SP_EL0", "EL1", "EL0 64-bit", "EL0 32-bit"} {
		for _, kind := range []string{"synchronous", "IRQ", "FIQ", "SError"} {
			names = append(names, from+" "+kind)
		}
	}
	return names
}()

// vectors reads where each entry goes in the end: an entry saves a little and
// then branches.
func (q *question) vectors(c CPU) []VectorInfo {
	const entrySize = 0x80
	base, err := c.SyscallEntry()
	if err != nil {
		q.fail(err)
		return nil
	}
	var code [entrySize * 16]byte
	q.memory(code[:], base)
	all := []VectorInfo{{Name: "VBAR_EL1", Handler: Pointer(base)}}
	for i, name := range arm64Vectors {
		at := base + uint64(i)*entrySize
		v := VectorInfo{Name: name, Handler: Pointer(at)}
		for off := uint64(0); off < entrySize; off += 4 {
			insn := le.Uint32(code[uint64(i)*entrySize+off:])
			if insn>>26 == 0x05 { // B: the last one counts, those before skip something
				v.Handler = Pointer(at + off + uint64(int64(int32(insn<<6))>>4))
			}
		}
		all = append(all, v)
	}
	return all
}
