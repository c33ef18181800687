package kvm

// VCPU is one virtual CPU. Except for SetImmediateExit its methods belong to
// one thread at a time: the one that runs it (see the package comment).
type VCPU struct {
	attributes
	id   int
	mem  []byte // the shared region: run page, data of port I/O, coalesced ring
	page *runPage
	ring []dirtyGFN // nil without CapDirtyLogRing
	next int        // entry of ring to harvest
	exit Exit
}

// ID is the number that the vCPU was created with.
func (v *VCPU) ID() int { return v.id }

// EnableCap is KVM_ENABLE_CAP on the vCPU.
func (v *VCPU) EnableCap(c Cap, flags uint32, args ...uint64) error {
	return enable(v.fd, c, flags, args)
}

// MPState is what a vCPU does besides running guest code (KVM_MP_STATE_*).
type MPState uint32

// The states that amd64 and arm64 know.
const (
	MPRunnable      MPState = 0  // "the vcpu is currently running"
	MPUninitialized MPState = 1  // x86: "an application processor (AP) which has not yet received an INIT signal"
	MPInitReceived  MPState = 2  // x86: "received an INIT signal, and is now ready for a SIPI"
	MPHalted        MPState = 3  // x86: "executed a HLT instruction and is waiting for an interrupt"
	MPSIPIReceived  MPState = 4  // x86: "the vcpu has just received a SIPI"
	MPStopped       MPState = 5  // arm64: "the vcpu is stopped"
	MPSuspended     MPState = 10 // arm64: "the vcpu is in a suspend state and is waiting for a wakeup event"
)

// MPState is KVM_GET_MP_STATE (CapMPState): "Returns the vcpu's current
// multiprocessing state (though also valid on uniprocessor guests)."
func (v *VCPU) MPState() (MPState, error) {
	var s mpState
	_, err := do(v.fd, reqGetMPState, &s)
	return MPState(s.state), err
}

// SetMPState is KVM_SET_MP_STATE.
func (v *VCPU) SetMPState(s MPState) error {
	_, err := do(v.fd, reqSetMPState, &mpState{uint32(s)})
	return err
}

// SetGuestDebug is KVM_SET_GUEST_DEBUG (CapSetGuestDebug): "Set up the processor
// specific debug registers and configure vcpu for handling guest debug events."
func (v *VCPU) SetGuestDebug(d *GuestDebug) error {
	_, err := do(v.fd, reqSetGuestDebug, d)
	return err
}

// GetVCPUEvents is KVM_GET_VCPU_EVENTS (CapVCPUEvents): on x86 "currently
// pending exceptions, interrupts, and NMIs as well as related states of the
// vcpu"; on arm64 the pending SError.
func (v *VCPU) GetVCPUEvents() (e VCPUEvents, err error) {
	_, err = do(v.fd, reqGetVCPUEvents, &e)
	return e, err
}

// SetVCPUEvents is KVM_SET_VCPU_EVENTS.
func (v *VCPU) SetVCPUEvents(e *VCPUEvents) error {
	_, err := do(v.fd, reqSetVCPUEvents, e)
	return err
}
