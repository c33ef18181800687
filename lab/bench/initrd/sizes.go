package initrd

// What is moved in each direction, in bytes, by the guest's program and by the host's
// end of a stream. Linux gives a console sixteen bytes at a time.
const (
	StreamSize  = 16 << 20
	ConsoleSize = 64 << 10
)
