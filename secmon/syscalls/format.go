package syscalls

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
)

// Format writes a call in strace's form: name, arguments and, where it is known,
// the result. Of buffers at most limit bytes are written; strace's is 32.
func Format(c *event.Call, limit int) string {
	s := c.Name + "(" + strings.Join(Args(c, limit), ", ") + ")"
	if r := Result(c); r != "" {
		s += " = " + r
	}
	return s
}

// Args writes a call's arguments as strace does. Memory that was not resident
// when it was looked at is an address that says so.
func Args(c *event.Call, limit int) []string {
	abi, known := ParseABI(c.ABI)
	var call *Call
	if known {
		call = Lookup(abi, c.Name)
	}
	if call == nil {
		var words []string
		for _, w := range c.Args {
			words = append(words, hex(w))
		}
		return words
	}
	args := make([]string, len(call.Params))
	for i, p := range call.Params {
		f := formatter{c: c, call: call, abi: abi, limit: limit}
		args[i] = f.arg(i, p)
	}
	// Like open without O_CREAT: what is not looked at is not written.
	if n := len(args); n > 0 && call.Params[n-1].Kind == Mode && !creates(c, call, abi) {
		args = args[:n-1]
	}
	return args
}

// creates says whether a call's last parameter, a mode, counts.
func creates(c *event.Call, call *Call, abi ABI) bool {
	for i, p := range call.Params {
		if p.set == "open" {
			const creat, tmpfile = 0x40, 0x400000
			return call.Value(abi, i, &c.Args)&(creat|tmpfile) != 0
		}
	}
	return true
}

type formatter struct {
	c     *event.Call
	call  *Call
	abi   ABI
	limit int
}

func (f *formatter) value(i int) uint64 { return f.call.Value(f.abi, i, &f.c.Args) }

func (f *formatter) arg(i int, p Param) string {
	v := f.value(i)
	switch p.Kind {
	case Int, FD, PID, Signal:
		if p.Kind == Signal {
			if n := unix.SignalName(unix.Signal(int32(v))); n != "" {
				return n
			}
		}
		return strconv.Itoa(int(int32(v)))
	case DirFD:
		if int32(v) == unix.AT_FDCWD {
			return "AT_FDCWD"
		}
		return strconv.Itoa(int(int32(v)))
	case ID:
		return strconv.Itoa(int(int32(v)))
	case Uint:
		return strconv.FormatUint(uint64(uint32(v)), 10)
	case Long:
		if f.abi.Compat() {
			return strconv.Itoa(int(int32(v)))
		}
		return strconv.FormatInt(int64(v), 10)
	case Off:
		return strconv.FormatInt(int64(v), 10)
	case Hex:
		return hex(v)
	case Mode:
		return fmt.Sprintf("%#03o", uint16(v))
	case Flags:
		if p.set == "proto" && !f.overIP() {
			return strconv.FormatUint(uint64(uint32(v)), 10)
		}
		return FlagNames(f.abi, p.set, f.trim(p.set, v))
	case Ptr:
		return pointer(v)
	case Ulong, Size, U64:
		return strconv.FormatUint(v, 10)
	}
	return f.memory(i, p, v)
}

// overIP says whether a socket is made whose protocol is one of IP's.
func (f *formatter) overIP() bool {
	family := f.value(0)
	return family == familyInet || family == familyInet6
}

// trim drops what is above 32 bits where the kernel does not look at it.
func (f *formatter) trim(set string, v uint64) uint64 {
	if set == "clone" || set == "mount" {
		return v
	}
	return uint64(uint32(v))
}

func pointer(v uint64) string {
	if v == 0 {
		return "NULL"
	}
	return hex(v)
}

// memory writes what a parameter points to.
func (f *formatter) memory(i int, p Param, v uint64) string {
	data, read := f.c.Data[i], f.c.Read&(1<<i) != 0
	switch {
	case v == 0:
		return "NULL"
	case p.Kind == Envp && read:
		vars := "vars"
		if strings.Count(data, "\x00") == 1 {
			vars = "var"
		}
		return fmt.Sprintf("%s /* %d %s */", hex(v), strings.Count(data, "\x00"), vars)
	case p.Kind.After() && !read:
		return hex(v)
	case !read:
		return hex(v) + " /* not resident */"
	}
	switch p.Kind {
	case Path:
		return Quote(data, len(data))
	case Str:
		return Quote(data, f.limit)
	case Buf, OutBuf, OutData, OutStr:
		return f.buffer(i, p, data)
	case Argv:
		return f.list(data)
	case SockAddr, OutAddr:
		return socketAddress(data)
	case IOV, OutIOV:
		return f.pieces(Pieces(data))
	case MsgHdr, OutMsg:
		to, pieces := Message(data)
		name := "NULL"
		if to != "" {
			name = socketAddress(to)
		}
		return fmt.Sprintf("{msg_name=%s, msg_namelen=%d, msg_iov=%s, msg_iovlen=%d}", name, len(to), f.pieces(pieces), len(pieces))
	}
	return structure(p.Kind, f.abi, data, v)
}

func socketAddress(raw string) string {
	if a, ok := ParseAddress(raw); ok {
		return a.String()
	}
	return Quote(raw, len(raw))
}

// buffer says by "..." when the guest has more than was read.
func (f *formatter) buffer(i int, p Param, data string) string {
	quote := Quote
	if p.Kind == OutData {
		quote = quoteHex
	}
	s := quote(data, f.limit)
	whole := uint64(len(data))
	if p.Kind == Buf && p.Length >= 0 {
		whole = f.value(p.Length)
	} else if f.c.Returned && f.c.Result > 0 && p.Kind != OutStr {
		whole = uint64(f.c.Result)
	}
	if whole > uint64(len(data)) && !strings.HasSuffix(s, "...") {
		s += "..."
	}
	return s
}

func (f *formatter) list(data string) string {
	var words []string
	for word := range strings.SplitSeq(strings.TrimSuffix(data, "\x00"), "\x00") {
		words = append(words, Quote(word, f.limit))
	}
	if data == "" {
		words = nil
	}
	return "[" + strings.Join(words, ", ") + "]"
}

func (f *formatter) pieces(all []Piece) string {
	var words []string
	for _, p := range all {
		s := Quote(p.Data, f.limit)
		if p.Size > uint64(len(p.Data)) && !strings.HasSuffix(s, "...") {
			s += "..."
		}
		words = append(words, fmt.Sprintf("{iov_base=%s, iov_len=%d}", s, p.Size))
	}
	return "[" + strings.Join(words, ", ") + "]"
}

// addresses are the calls whose result is one.
var addresses = map[string]bool{"mmap": true, "mmap2": true, "brk": true, "mremap": true, "shmat": true}

// maxErrno bounds what is an error number: include/linux/err.h.
const maxErrno = 4095

// restarts are results that the kernel keeps for itself: include/linux/errno.h.
var restarts = map[int64]string{
	512: "ERESTARTSYS (To be restarted if SA_RESTART is set)", 513: "ERESTARTNOINTR (To be restarted)",
	514: "ERESTARTNOHAND (To be restarted if no handler)", 516: "ERESTART_RESTARTBLOCK (Interrupted by signal)",
}

// Result writes what a call gave its caller, "" where it has not returned.
func Result(c *event.Call) string {
	r := c.Result
	switch {
	case !c.Returned:
		return ""
	case r >= 0 || r < -maxErrno:
		if addresses[c.Name] {
			return hex(uint64(r))
		}
		return strconv.FormatInt(r, 10)
	case restarts[-r] != "":
		return "? " + restarts[-r]
	}
	name := unix.ErrnoName(unix.Errno(-r))
	if name == "" {
		return fmt.Sprintf("-1 (errno %d)", -r)
	}
	return fmt.Sprintf("-1 %s (%s)", name, message(unix.Errno(-r)))
}

// message is the C library's text of an error, which package syscall begins with
// a small letter.
func message(e unix.Errno) string {
	s := e.Error()
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
