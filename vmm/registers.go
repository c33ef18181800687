package vmm

import "fmt"

// A RegisterSet is registers that belong together.
type RegisterSet struct {
	Name      string // CoreRegisters and so on
	Registers []RegisterSpec
}

// The names of register sets.
const (
	CoreRegisters    = "core"     // general registers, program counter, flags; on amd64 the x87's too
	VectorRegisters  = "vector"   // SSE; Advanced SIMD and floating point
	SegmentRegisters = "segments" // amd64: the bases of FS and GS
	SystemRegisters  = "system"   // those that say how the CPU works: control, translation, exceptions
)

// A RegisterSpec is one register that [VCPU.ReadRegisters] has.
type RegisterSpec struct {
	Name string
	Size int // bytes
}

// RegisterSets are the registers of a vCPU on this architecture, in a fixed
// order.
func RegisterSets() []RegisterSet {
	var sets []RegisterSet
	for _, f := range registerFields {
		if n := len(sets); n == 0 || sets[n-1].Name != f.set {
			sets = append(sets, RegisterSet{Name: f.set})
		}
		s := &sets[len(sets)-1]
		s.Registers = append(s.Registers, RegisterSpec{f.name, f.size})
	}
	return sets
}

// ReadRegisters gives all registers of [RegisterSets], one after the other,
// each little-endian.
func (v *VCPU) ReadRegisters() ([]byte, error) {
	s, err := v.readState()
	if err != nil {
		return nil, err
	}
	var all []byte
	for i := range registerFields {
		p, err := s.get(&registerFields[i])
		if err != nil {
			return nil, fmt.Errorf("vmm: register %s: %w", registerFields[i].name, err)
		}
		all = append(all, p...)
	}
	return all, nil
}

// WriteRegister sets register n, from 0, of [RegisterSets] to value, which has
// its size. What it is not to be is KVM's to say.
func (v *VCPU) WriteRegister(n int, value []byte) error {
	if n < 0 || n >= len(registerFields) || len(value) != registerFields[n].size {
		return fmt.Errorf("vmm: no register %d of %d bytes", n, len(value))
	}
	s, err := v.readState()
	if err != nil {
		return err
	}
	if err := s.set(&registerFields[n], value); err != nil {
		return fmt.Errorf("vmm: set register %s: %w", registerFields[n].name, err)
	}
	return nil
}

// numbered is names with the numbers 0 to n-1.
func numbered(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint(prefix, i))
	}
	return names
}
