package gdbstub

// BreakKind is what a breakpoint is, by the number of its packet Z.
type BreakKind int

// The kinds.
const (
	Software BreakKind = iota
	Hardware
	WatchWrite
	WatchRead
	WatchAccess
)

// A Break is a breakpoint or a watchpoint.
type Break struct {
	Kind BreakKind
	Addr uint64
	Len  uint64 // bytes watched; of a breakpoint the length of its instruction
}

// StopReason is why a target stands still.
type StopReason int

// The reasons.
const (
	// Interrupted: it was asked to, or was found standing.
	Interrupted StopReason = iota
	// Stepped: a thread has done its instruction.
	Stepped
	// Hit: a thread has come to Break.
	Hit
	// Exited: the target has ended, with Status.
	Exited
	// Killed: the target has ended otherwise.
	Killed
)

// A Stop is why all threads stand still.
type Stop struct {
	Reason StopReason
	Thread int
	Break  Break
	Status byte
}

// An Action is what a thread is to do while the target runs.
type Action struct {
	Thread int
	Step   bool
}

// A Target is what is debugged. Threads have the numbers from 1. Its methods are
// called by one goroutine, and all but Stops, Interrupt, Detach and Kill while
// the target stands still.
type Target interface {
	// Attach has all threads stand still.
	Attach() (Stop, error)
	// Detach takes all breakpoints away and lets all threads go on.
	Detach() error
	Kill() error

	// Description is the registers as an XML document for GDB.
	Description() string
	Threads() []ThreadInfo

	// ReadRegisters gives all registers, in the order of the description.
	ReadRegisters(thread int) ([]byte, error)
	// WriteRegister sets one, by its place in the description.
	WriteRegister(thread, n int, value []byte) error

	// ReadMemory fills p from address addr as a thread sees memory; n is how
	// much of it could be read.
	ReadMemory(thread int, addr uint64, p []byte) (n int, err error)
	WriteMemory(thread int, addr uint64, p []byte) error

	// Insert and Remove set and take away breakpoints; the error wraps
	// errors.ErrUnsupported for a kind that there is not.
	Insert(thread int, b Break) error
	Remove(b Break) error

	// Resume has the named threads go on while the others stand, and returns.
	// When one has stopped, and all others stand too, Stops has the reason.
	Resume([]Action) error
	Stops() <-chan Stop
	// Interrupt has a running target stop.
	Interrupt() error

	// File gives a file that the debugger may read: the path that Executable
	// names. Executable is "" when there is none.
	Executable() string
	File(path string) ([]byte, error)
}

// ThreadInfo is what a debugger lists of a thread.
type ThreadInfo struct {
	ID    int
	Name  string
	Extra string // what it is doing
}
