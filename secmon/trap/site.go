package trap

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"warder/secmon/introspect"
	"warder/secmon/syscalls"
	"warder/vmm/disasm"
)

// ErrNotPatchable is the error for a function that does not begin with a NOP
// that could be replaced: the kernel has no function tracing, or uses the place
// itself at the moment.
var ErrNotPatchable = errors.New("no NOP to put a hook on")

// errNotReady says that the kernel has not got its functions ready for its own
// tracer yet, which it does before it runs its first program.
var errNotReady = errors.New("the kernel has not put its NOPs there yet")

// site is a place in the guest's kernel that is hooked.
type site struct {
	call    *syscalls.Call // nil for the pad
	abi     syscalls.ABI
	handler string // the function's name as package syscalls has it
	check   bool   // programCheck, not the call's handler
	name    string // of the function
	at      uint64 // address of the NOP
	old     []byte // what was there: the NOP, or what the guest's tracer has put there
	does    instruction
	hook    []byte // what is in its place
	clients []*Traps
}

// again is the site without its clients, nil for none.
func (s *site) again() *site {
	if s == nil {
		return nil
	}
	c := *s
	c.call, c.clients = nil, nil
	return &c
}

func (s *site) add(t *Traps) {
	if !slices.Contains(s.clients, t) {
		s.clients = append(s.clients, t)
	}
}

// giveBack takes the hook off, unless somebody else has put something in its
// place.
func (s *site) giveBack(v view) error {
	now := make([]byte, len(s.hook))
	if err := v.ReadAt(now, s.at); err != nil {
		return err
	}
	if !bytes.Equal(now, s.hook) {
		return fmt.Errorf("%s was changed to % x while it was hooked", s.name, now)
	}
	return writeCode(v, s.at, s.old)
}

// patch is how an architecture's functions begin and what a hook is.
type patch struct {
	nop, hook []byte
	// before lists what may stand before the NOP, in order; each may be absent.
	before [][][]byte
	// early says whether the code is what the kernel's image has there, which the
	// kernel is still to change.
	early func(g *introspect.Guest, code []byte, at uint64) bool
}

// The hook of amd64 is "out %al, $0xea", a port that no device has, padded to
// the NOP's length; package vmm resumes behind all of it. That of arm64 is
// "brk #0x5744".
var patches = map[string]patch{
	"amd64": {
		nop:  []byte{0x0f, 0x1f, 0x44, 0x00, 0x00}, // nopl 0(%rax,%rax,1)
		hook: []byte{0xe6, 0xea, 0x90, 0x90, 0x90},
		before: [][][]byte{{
			{0xf3, 0x0f, 0x1e, 0xfa}, // endbr64
			{0x66, 0x0f, 0x1f, 0x00}, // endbr64 that the kernel has sealed: nopw (%rax)
			{0x0f, 0x1f, 0x40, 0x00}, // the same as older kernels seal it: nopl 0(%rax)
		}},
		early: callsTracer,
	},
	"arm64": {
		nop:  nopARM64,
		hook: []byte{0x80, 0xe8, 0x2a, 0xd4},
		before: [][][]byte{
			{
				{0x5f, 0x24, 0x03, 0xd5}, // bti c
				{0xdf, 0x24, 0x03, 0xd5}, // bti jc
			},
			{{0x3f, 0x23, 0x03, 0xd5}}, // paciasp
			// mov x9, x30, which the kernel puts in place of the first of two
			// NOPs when it gets ready to trace (arch/arm64/kernel/ftrace.c).
			{{0xe9, 0x03, 0x1e, 0xaa}},
		},
		early: twoNOPs,
	},
}

// callsTracer says whether a call of __fentry__ stands at an address.
func callsTracer(g *introspect.Guest, code []byte, at uint64) bool {
	const call, length = 0xe8, 5
	tracer, err := g.Addr("__fentry__")
	return err == nil && code[0] == call && at+length+uint64(int64(int32(le.Uint32(code[1:])))) == tracer
}

// twoNOPs says whether there are the two of which the kernel will take the first.
func twoNOPs(_ *introspect.Guest, code []byte, _ uint64) bool {
	return bytes.HasPrefix(code, nopARM64) && bytes.HasPrefix(code[len(nopARM64):], nopARM64)
}

var nopARM64 = []byte{0x1f, 0x20, 0x03, 0xd5}

// maxEntry is how many bytes of a function are looked at.
const maxEntry = 20

// nopOffset finds the NOP at the start of a function.
func (p patch) nopOffset(code []byte) (int, bool) {
	off := 0
	for _, alternatives := range p.before {
		for _, insn := range alternatives {
			if bytes.HasPrefix(code[off:], insn) {
				off += len(insn)
				break
			}
		}
	}
	return off, bytes.HasPrefix(code[off:], p.nop)
}

// entry reads how a function begins.
func entry(v introspect.View, g *introspect.Guest, symbol string) (at uint64, code []byte, err error) {
	if at, err = g.Addr(symbol); err != nil {
		return 0, nil, err
	}
	code = make([]byte, maxEntry)
	if err := v.ReadAt(code, at); err != nil {
		return 0, nil, fmt.Errorf("%s: %w", symbol, err)
	}
	return at, code, nil
}

// newSite looks at a function and finds its NOP.
func newSite(v introspect.View, g *introspect.Guest, symbol string) (*site, error) {
	at, code, err := entry(v, g, symbol)
	if err != nil {
		return nil, err
	}
	p := patches[g.Arch()]
	off, ok := p.nopOffset(code)
	if p.early != nil && p.early(g, code[off:], at+uint64(off)) {
		return nil, fmt.Errorf("%s: %w", symbol, errNotReady)
	}
	if ok {
		return &site{name: symbol, at: at + uint64(off), old: p.nop, hook: p.hook, does: instruction{length: len(p.nop)}}, nil
	}
	// The guest traces it, or the kernel is built without a tracer.
	if does, ok := understood(g.Arch(), code[off:], at+uint64(off)); ok && does.length == len(p.hook) {
		return &site{name: symbol, at: at + uint64(off), old: code[off : off+does.length : off+does.length], hook: p.hook, does: does}, nil
	}
	if s, err := newEntry(v, g, symbol); err == nil {
		return s, nil
	}
	return nil, fmt.Errorf("%s at %#x: %w: found %s", symbol, at, ErrNotPatchable, describe(g.Arch(), code, at, off))
}

// newEntry makes a site of a function's very first instruction behind its
// prelude, if that is one that can be done for it.
func newEntry(v introspect.View, g *introspect.Guest, symbol string) (*site, error) {
	start, code, err := entry(v, g, symbol)
	if err != nil {
		return nil, err
	}
	off := prelude(g.Arch(), code)
	at, code := start+uint64(off), code[off:]
	does, ok := understood(g.Arch(), code, at)
	if !ok {
		return nil, fmt.Errorf("%s at %#x: %w: found %s", symbol, at, ErrNotPatchable, describe(g.Arch(), code, at, 0))
	}
	hook := patches[g.Arch()].hook
	if does.length < len(hook) {
		hook = shortHook
	}
	return &site{name: symbol, at: at, old: code[:does.length:does.length], hook: hook, does: does}, nil
}

// shortHook is that of amd64 over four bytes: out %al, $0xea; xchg %ax, %ax.
var shortHook = []byte{0xe6, 0xea, 0x66, 0x90}

// describe disassembles the instruction that stands where the NOP should.
func describe(arch string, code []byte, at uint64, off int) string {
	var insn disasm.Instruction
	var err error
	if arch == "arm64" {
		insn, err = disasm.ARM64(code[off:], at+uint64(off))
	} else {
		insn, err = disasm.AMD64(code[off:], at+uint64(off), 64)
	}
	if err != nil {
		return fmt.Sprintf("% x", code[off:])
	}
	if bytes.HasPrefix(code[off:], patches[arch].hook) {
		return fmt.Sprintf("% x (%s), which is a hook of warder's", code[off:off+insn.Len], insn.Text)
	}
	return fmt.Sprintf("% x (%s)", code[off:off+insn.Len], insn.Text)
}
