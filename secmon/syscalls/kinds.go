package syscalls

// Kind is what a parameter is: how its value is written, and what is to be read
// where it points to something.
type Kind uint8

const (
	Ulong  Kind = iota
	Int         // 32 bits, signed
	Uint        // 32 bits
	Long        // a signed word
	Size        // a count of bytes
	Hex         // written in hexadecimal
	Ptr         // an address of which nothing more is said
	Mode        // permissions, in octal
	FD          // a file descriptor
	DirFD       // one that a path in the next parameter starts from
	PID         // of a process
	ID          // of a user or group; -1 for none
	Signal      // a signal's number
	Off         // 64 bits, signed, also in 32-bit ABIs
	U64         // 64 bits, also in 32-bit ABIs
	Flags       // names, by a set
	// What is read before the call: strings, and lists of them.
	Path
	Str
	Argv
	Envp
	SockAddr
	Buf       // Length bytes
	IOV       // Length pieces
	MsgHdr    // struct msghdr, what it sends
	Timespec  // struct timespec
	OpenHow   // struct open_how
	CloneArgs // struct clone_args
	SigAction // struct sigaction
	PollFDs   // Length of struct pollfd
	// What is read after it.
	OutBuf  // as many bytes as the result says
	OutData // the same, of which nobody makes text
	OutIOV
	OutMsg  // struct msghdr, what it receives
	OutAddr // a socket address, its length behind a pointer
	OutStr  // a string
	OutFDs  // two descriptors
	OutInt  // an int
)

var kindNames = map[string]Kind{
	"ulong": Ulong, "int": Int, "uint": Uint, "long": Long, "size": Size, "hex": Hex, "ptr": Ptr, "mode": Mode,
	"fd": FD, "dirfd": DirFD, "pid": PID, "id": ID, "sig": Signal, "off": Off, "u64": U64,
	"path": Path, "str": Str, "argv": Argv, "envp": Envp, "sockaddr": SockAddr, "buf": Buf, "iov": IOV, "msghdr": MsgHdr,
	"timespec": Timespec, "openhow": OpenHow, "clonearg": CloneArgs, "sigaction": SigAction, "pollfds": PollFDs,
	"outbuf": OutBuf, "outdata": OutData, "outiov": OutIOV, "outmsghdr": OutMsg, "outaddr": OutAddr, "outstr": OutStr,
	"outfds": OutFDs, "outint": OutInt,
}

// After says that what a parameter points to is there when the call has
// returned, not before.
func (k Kind) After() bool { return k >= OutBuf }

// Points says that a parameter points to something that is read.
func (k Kind) Points() bool { return k >= Path }
