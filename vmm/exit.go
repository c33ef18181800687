package vmm

import (
	"fmt"
	"strings"
)

// Reason is why a machine ended.
type Reason int

const (
	// PowerOff: the guest switched its machine off.
	PowerOff Reason = iota + 1
	// Reset: the guest asked for a reset, as Linux does after a panic when it
	// runs with panic=-1.
	Reset
	// Killed: the host ended the machine, by Kill or by Stop's deadline.
	Killed
	// Crashed: the guest did what KVM can't go on from: a triple fault, an
	// instruction that can't be emulated, an entry that the CPU refused.
	Crashed
	// Hung: the guest's watchdog expired, see [WatchdogAction].
	Hung
	// Failed: the host could not go on: KVM or a device's host side failed.
	Failed
)

var reasonNames = [...]string{PowerOff: "power off", Reset: "reset", Killed: "killed", Crashed: "crashed", Hung: "watchdog", Failed: "failed"}

func (r Reason) String() string {
	if r < PowerOff || int(r) >= len(reasonNames) {
		return fmt.Sprintf("reason %d", int(r))
	}
	return reasonNames[r]
}

// Exit is how a machine ended.
type Exit struct {
	Reason Reason
	// Err says what went wrong when Reason is Crashed, Hung or Failed, or when it
	// was the watchdog that reset the machine.
	Err error
	// Report is the state of the vCPU at fault, nil if none was.
	Report *Report
}

func (e Exit) String() string {
	if e.Err == nil {
		return e.Reason.String()
	}
	return fmt.Sprintf("%v: %v", e.Reason, e.Err)
}

// A Report is what is known of a vCPU when its machine could not go on.
type Report struct {
	VCPU int
	// Registers are the general registers, then those that say how addresses
	// are translated, in the architecture's order.
	Registers []Register
	// Instruction is the one at the program counter: its bytes in hex and, if
	// they decode, its text. Empty where the guest has no readable memory.
	Instruction string
}

// Register is one register by the name that the architecture's manual gives it.
type Register struct {
	Name  string
	Value uint64
}

// String is the report as people read it: four registers a line, then the
// instruction.
func (r *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "vCPU %d", r.VCPU)
	for i, reg := range r.Registers {
		sep := "  "
		if i%4 == 0 {
			sep = "\n  "
		}
		fmt.Fprintf(&b, "%s%-6s %016x", sep, reg.Name, reg.Value)
	}
	if r.Instruction != "" {
		fmt.Fprintf(&b, "\n  at     %s", r.Instruction)
	}
	return b.String()
}
