package vmm

import (
	"encoding/binary"
	"errors"

	"warder/kvm"
)

// A registerField is where one register is in what KVM gives. One of general,
// special, segment, msr and legacy says so.
type registerField struct {
	set, name string
	size      int

	general func(*kvm.Regs) *uint64
	special func(*kvm.Sregs) *uint64
	segment func(*kvm.Sregs) *kvm.Segment // its selector
	msr     uint32
	legacy  int // offset in the XSAVE area
	length  int // bytes there, if fewer than size
	tags    bool
}

var registerFields = func() []registerField {
	var all []registerField
	add := func(f registerField) { all = append(all, f) }
	general := func(name string, size int, f func(*kvm.Regs) *uint64) {
		add(registerField{set: CoreRegisters, name: name, size: size, general: f})
	}
	segment := func(name string, f func(*kvm.Sregs) *kvm.Segment) {
		add(registerField{set: CoreRegisters, name: name, size: 4, segment: f})
	}
	general("rax", 8, func(r *kvm.Regs) *uint64 { return &r.RAX })
	general("rbx", 8, func(r *kvm.Regs) *uint64 { return &r.RBX })
	general("rcx", 8, func(r *kvm.Regs) *uint64 { return &r.RCX })
	general("rdx", 8, func(r *kvm.Regs) *uint64 { return &r.RDX })
	general("rsi", 8, func(r *kvm.Regs) *uint64 { return &r.RSI })
	general("rdi", 8, func(r *kvm.Regs) *uint64 { return &r.RDI })
	general("rbp", 8, func(r *kvm.Regs) *uint64 { return &r.RBP })
	general("rsp", 8, func(r *kvm.Regs) *uint64 { return &r.RSP })
	general("r8", 8, func(r *kvm.Regs) *uint64 { return &r.R8 })
	general("r9", 8, func(r *kvm.Regs) *uint64 { return &r.R9 })
	general("r10", 8, func(r *kvm.Regs) *uint64 { return &r.R10 })
	general("r11", 8, func(r *kvm.Regs) *uint64 { return &r.R11 })
	general("r12", 8, func(r *kvm.Regs) *uint64 { return &r.R12 })
	general("r13", 8, func(r *kvm.Regs) *uint64 { return &r.R13 })
	general("r14", 8, func(r *kvm.Regs) *uint64 { return &r.R14 })
	general("r15", 8, func(r *kvm.Regs) *uint64 { return &r.R15 })
	general("rip", 8, func(r *kvm.Regs) *uint64 { return &r.RIP })
	general("eflags", 4, func(r *kvm.Regs) *uint64 { return &r.RFLAGS })
	segment("cs", func(s *kvm.Sregs) *kvm.Segment { return &s.CS })
	segment("ss", func(s *kvm.Sregs) *kvm.Segment { return &s.SS })
	segment("ds", func(s *kvm.Sregs) *kvm.Segment { return &s.DS })
	segment("es", func(s *kvm.Sregs) *kvm.Segment { return &s.ES })
	segment("fs", func(s *kvm.Sregs) *kvm.Segment { return &s.FS })
	segment("gs", func(s *kvm.Sregs) *kvm.Segment { return &s.GS })
	for i, name := range numbered("st", 8) {
		add(registerField{set: CoreRegisters, name: name, size: 10, legacy: fxST + 16*i})
	}
	for _, f := range []registerField{
		{name: "fctrl", legacy: fxFCW, length: 2}, {name: "fstat", legacy: fxFSW, length: 2},
		{name: "ftag", legacy: fxFTW, length: 1, tags: true},
		{name: "fiseg", legacy: fxFCS, length: 2}, {name: "fioff", legacy: fxFIP},
		{name: "foseg", legacy: fxFDS, length: 2}, {name: "fooff", legacy: fxFDP},
		{name: "fop", legacy: fxFOP, length: 2},
	} {
		f.set, f.size = CoreRegisters, 4
		add(f)
	}
	for i, name := range numbered("xmm", 16) {
		add(registerField{set: VectorRegisters, name: name, size: 16, legacy: fxXMM + 16*i})
	}
	add(registerField{set: VectorRegisters, name: "mxcsr", size: 4, legacy: fxMXCSR})
	special := func(set, name string, f func(*kvm.Sregs) *uint64) {
		add(registerField{set: set, name: name, size: 8, special: f})
	}
	special(SegmentRegisters, "fs_base", func(s *kvm.Sregs) *uint64 { return &s.FS.Base })
	special(SegmentRegisters, "gs_base", func(s *kvm.Sregs) *uint64 { return &s.GS.Base })
	special(SystemRegisters, "cr0", func(s *kvm.Sregs) *uint64 { return &s.CR0 })
	special(SystemRegisters, "cr2", func(s *kvm.Sregs) *uint64 { return &s.CR2 })
	special(SystemRegisters, "cr3", func(s *kvm.Sregs) *uint64 { return &s.CR3 })
	special(SystemRegisters, "cr4", func(s *kvm.Sregs) *uint64 { return &s.CR4 })
	special(SystemRegisters, "cr8", func(s *kvm.Sregs) *uint64 { return &s.CR8 })
	special(SystemRegisters, "efer", func(s *kvm.Sregs) *uint64 { return &s.EFER })
	special(SystemRegisters, "gdtr", func(s *kvm.Sregs) *uint64 { return &s.GDT.Base })
	special(SystemRegisters, "idtr", func(s *kvm.Sregs) *uint64 { return &s.IDT.Base })
	special(SystemRegisters, "tr_base", func(s *kvm.Sregs) *uint64 { return &s.TR.Base })
	for _, m := range []struct {
		name string
		msr  uint32
	}{{"k_gs_base", 0xc000_0102}, {"lstar", 0xc000_0082}, {"star", 0xc000_0081}, {"sfmask", 0xc000_0084}} {
		add(registerField{set: SystemRegisters, name: m.name, size: 8, msr: m.msr})
	}
	return all
}()

// Offsets in the XSAVE area (Intel SDM volume 1, tables 10-2 and 13.4.2).
const (
	fxFCW   = 0
	fxFSW   = 2
	fxFTW   = 4
	fxFOP   = 6
	fxFIP   = 8
	fxFCS   = 12
	fxFDP   = 16
	fxFDS   = 20
	fxMXCSR = 24
	fxST    = 32
	fxXMM   = 160
	xstate  = 512

	xstateX87SSE = 3
)

// cpuState is a vCPU's registers as KVM groups them.
type cpuState struct {
	v *VCPU
	s kvm.Sregs
	x *kvm.XSAVE
}

func (v *VCPU) readState() (st *cpuState, err error) {
	st = &cpuState{v: v}
	if st.s, err = v.fd.GetSregs(); err != nil {
		return nil, err
	}
	st.x, err = v.fd.GetXSAVE()
	return st, err
}

func (st *cpuState) get(f *registerField) ([]byte, error) {
	switch {
	case f.general != nil:
		return registerBytes(*f.general(st.v.regs()), f.size), nil
	case f.special != nil:
		return registerBytes(*f.special(&st.s), f.size), nil
	case f.segment != nil:
		return registerBytes(uint64(f.segment(&st.s).Selector), f.size), nil
	case f.msr != 0:
		e := []kvm.MSREntry{{Index: f.msr}}
		if n, err := st.v.fd.GetMSRs(e); err != nil || n != 1 {
			return nil, errors.Join(errors.New("this vCPU has none"), err)
		}
		return registerBytes(e[0].Data, f.size), nil
	}
	p := make([]byte, f.size)
	for i := range f.inLegacy() {
		p[i] = byte(st.x.Region[(f.legacy+i)/4] >> (8 * ((f.legacy + i) % 4)))
	}
	if f.tags {
		return registerBytes(fullTags(p[0]), f.size), nil
	}
	return p, nil
}

// inLegacy is how many bytes of the XSAVE area the register has.
func (f *registerField) inLegacy() int {
	if f.length > 0 {
		return f.length
	}
	return f.size
}

func (st *cpuState) set(f *registerField, p []byte) error {
	v, x := st.v, registerValue(p)
	switch {
	case f.general != nil:
		*f.general(v.regs()) = x
		v.setRegs()
		return v.fd.SetRegs(v.regs())
	case f.special != nil:
		*f.special(&st.s) = x
		return v.setSregs(&st.s)
	case f.segment != nil:
		// What the selector stands for is in hidden registers, which stay.
		f.segment(&st.s).Selector = uint16(x)
		return v.setSregs(&st.s)
	case f.msr != 0:
		return v.fd.SetMSRs([]kvm.MSREntry{{Index: f.msr, Data: x}})
	}
	if f.tags {
		p = []byte{shortTags(x)}
	}
	for i := range f.inLegacy() {
		shift := 8 * ((f.legacy + i) % 4)
		word := &st.x.Region[(f.legacy+i)/4]
		*word = *word&^(0xff<<shift) | uint32(p[i])<<shift
	}
	st.x.Region[xstate/4] |= xstateX87SSE
	return v.fd.SetXSAVE(st.x)
}

// fullTags is the x87's tag word, two bits a register, of FXSAVE's, one bit: in
// use or empty.
func fullTags(short byte) (full uint64) {
	for i := range 8 {
		if short&(1<<i) == 0 {
			full |= 3 << (2 * i)
		}
	}
	return full
}

func shortTags(full uint64) (short byte) {
	for i := range 8 {
		if full>>(2*i)&3 != 3 {
			short |= 1 << i
		}
	}
	return short
}

// registerBytes is x in size bytes, at most 8.
func registerBytes(x uint64, size int) []byte {
	return binary.LittleEndian.AppendUint64(nil, x)[:size:size]
}

// registerValue is the number in p, of at most 8 bytes.
func registerValue(p []byte) uint64 {
	var b [8]byte
	copy(b[:], p)
	return binary.LittleEndian.Uint64(b[:])
}
