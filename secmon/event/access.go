package event

// Access is what a guest did to its machine. What does not apply is empty. It is
// shared between events and never changed.
type Access struct {
	// Name is the register's, or the kind of a call: smc, hvc.
	Name string
	// Addr is a port or a guest-physical address, Size the access's bytes.
	Addr uint64
	Port bool
	Size int
	// Write says that Value was written; Old is what was there before.
	Write      bool
	Old, Value uint64
	// Refused says that it had no effect.
	Refused bool
	// OldSymbol and Symbol name Old and Value, where they are in the kernel's code.
	OldSymbol, Symbol string
	// Args are a call's arguments, Data what it handed over.
	Args [4]uint64
	Data []byte
	// PC is the instruction that did it, PCSymbol its name in the kernel.
	PC       uint64
	PCSymbol string
	// Count is how many such acts the event stands for, this one included.
	Count uint64
}
