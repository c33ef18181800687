package syscalls

import (
	"fmt"
	"strings"
)

// structure writes a structure of fixed layout as strace does, or the address
// where it is cut short.
func structure(k Kind, abi ABI, data string, at uint64) string {
	p := []byte(data)
	word := func(i int) uint64 {
		if abi.Compat() {
			return uint64(le.Uint32(p[4*i:]))
		}
		return le.Uint64(p[8*i:])
	}
	size := 8
	if abi.Compat() {
		size = 4
	}
	switch {
	case k == Timespec && len(p) >= 2*size:
		return fmt.Sprintf("{tv_sec=%d, tv_nsec=%d}", int64(word(0)), int64(word(1)))
	case k == OpenHow && len(p) >= 24:
		flags, mode, resolve := le.Uint64(p), le.Uint64(p[8:]), le.Uint64(p[16:])
		s := "{flags=" + FlagNames(abi, "open", flags)
		if mode != 0 {
			s += fmt.Sprintf(", mode=%#o", mode)
		}
		return s + ", resolve=" + FlagNames(abi, "resolve", resolve) + "}"
	case k == CloneArgs && len(p) >= 64:
		s := "{flags=" + FlagNames(abi, "clone", le.Uint64(p))
		if e := le.Uint64(p[32:]); e != 0 {
			s += ", exit_signal=" + FlagNames(abi, "clone", e)
		}
		return s + fmt.Sprintf(", stack=%s, stack_size=%s}", pointer(le.Uint64(p[40:])), hex(le.Uint64(p[48:])))
	case k == SigAction && len(p) >= size:
		return "{sa_handler=" + handler(word(0)) + "}"
	case k == PollFDs:
		var all []string
		for ; len(p) >= 8; p = p[8:] {
			all = append(all, fmt.Sprintf("{fd=%d, events=%s}", int32(le.Uint32(p)), FlagNames(abi, "poll", uint64(le.Uint16(p[4:])))))
		}
		return "[" + strings.Join(all, ", ") + "]"
	case k == OutFDs && len(p) >= 8:
		return fmt.Sprintf("[%d, %d]", int32(le.Uint32(p)), int32(le.Uint32(p[4:])))
	case k == OutInt && len(p) >= 4:
		return fmt.Sprintf("[%d]", int32(le.Uint32(p)))
	}
	return pointer(at)
}

func handler(v uint64) string {
	switch v {
	case 0:
		return "SIG_DFL"
	case 1:
		return "SIG_IGN"
	}
	return hex(v)
}
