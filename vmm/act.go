package vmm

// ActKind is what a guest did to its machine.
type ActKind uint8

const (
	// RegisterWrite is a write of a register that says how the kernel is entered or
	// what the CPU may do: Name, Old, Value. It has had its effect, unless Refused.
	RegisterWrite ActKind = iota + 1
	// Stray is an access to a port or guest-physical address at which there is
	// nothing: Addr, Size, Write, Value of a write.
	Stray
	// FirmwareCall is an SMC or HVC that nobody answers (arm64): Value is its function
	// id, Name "smc" or "hvc".
	FirmwareCall
	// Hypercall is a call to warder: Value is its number, Args what it was given. See
	// docs/hypercalls.md.
	Hypercall
	// Crash is the machine's end by what the guest did: Message.
	Crash
)

var actNames = [...]string{RegisterWrite: "register-write", Stray: "stray-access", FirmwareCall: "firmware-call", Hypercall: "hypercall", Crash: "crash"}

func (k ActKind) String() string { return actNames[k] }

// An Act is something that a guest did to its machine and that no ordinary guest
// does often.
type Act struct {
	Kind       ActKind
	VCPU       int
	Name       string
	Addr       uint64
	Size       int
	Write      bool
	Port       bool // Addr is a port's
	Old, Value uint64
	Refused    bool
	Args       [4]uint64
	Message    string
}

// An ActFunc is told of acts, on the vCPU's thread: it must be quick, and must
// not wait for a vCPU. A guest can do some of them a hundred thousand times a
// second. What it gives is the result of a Hypercall.
type ActFunc func(*VCPU, Act) uint64

// OnAct sets the function that is told of acts; nil for none.
func (m *Machine) OnAct(f ActFunc) {
	if f == nil {
		m.acts.Store(nil)
		return
	}
	m.acts.Store(&f)
}

// act tells of one, and gives what becomes of a hypercall.
func (v *VCPU) act(a Act) uint64 {
	if f := v.m.acts.Load(); f != nil {
		a.VCPU = v.id
		return (*f)(v, a)
	}
	return NotSupported
}

// watched says whether anybody is told.
func (v *VCPU) watched() bool { return v.m.acts.Load() != nil }

// stray tells of an access that reached nothing.
func (v *VCPU) stray(addr uint64, port, write bool, data []byte) {
	if !v.watched() {
		return
	}
	a := Act{Kind: Stray, Addr: addr, Port: port, Write: write, Size: len(data)}
	if write {
		a.Value = littleEndian(data)
	}
	v.act(a)
}

// littleEndian is a number of at most 8 bytes.
func littleEndian(p []byte) (n uint64) {
	for i, b := range p[:min(len(p), 8)] {
		n |= uint64(b) << (8 * i)
	}
	return n
}

// The numbers of hypercalls that warder itself answers, and what they give:
// docs/hypercalls.md.
const (
	HypercallVersion = 0 // the version of this interface
	HypercallMark    = 1 // reports Args[0]
	HypercallReport  = 2 // reports Args[1] bytes at guest-physical address Args[0]

	hypercallVersion = 1
	// NotSupported is what a call gives that nobody answers.
	NotSupported = 1<<64 - 1
)

// hypercall answers a call to warder.
func (v *VCPU) hypercall(nr uint64, args [4]uint64) uint64 {
	if nr == HypercallVersion {
		return hypercallVersion
	}
	return v.act(Act{Kind: Hypercall, Value: nr, Args: args})
}
