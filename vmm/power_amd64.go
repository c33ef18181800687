package vmm

// guestEnds is the callback of the registers by which a guest ends its machine.
// An arm64 guest calls PSCI instead, which KVM answers.
func (m *Machine) guestEnds(r Reason) func() { return func() { m.end(Exit{Reason: r}) } }
