package initrd

// Strace is what an argument of the guest's program begins with that says which
// calls a strace in the guest is to trace.
const Strace = "strace="

// What is moved in each direction, in bytes, by the guest's program and by the host's
// end of a stream. Linux gives a console sixteen bytes at a time.
const (
	StreamSize  = 16 << 20
	ConsoleSize = 64 << 10
)
