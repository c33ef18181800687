package integrity

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sort"

	"warder/secmon/introspect"
)

type sum = [sha256.Size]byte

const (
	pageSize = 4096
	// chunk is how much code is read at once.
	chunk = 64 * pageSize
	// maxCode is more than any kernel has, in bytes.
	maxCode = 128 << 20
)

// text is the kernel's code: a digest of each page, without what jump labels have put
// there.
type text struct {
	from, to uint64
	jumps    []jump // by address
	sums     []sum
}

// symbols are a guest's; *introspect.Live has them.
type symbols interface {
	Addr(symbol string) (uint64, error)
}

// takeText reads the kernel's code for the first time.
func takeText(symbols symbols, v introspect.View, unhook func(uint64, []byte)) (*text, error) {
	t := &text{}
	for symbol, at := range map[string]*uint64{"_stext": &t.from, "_etext": &t.to} {
		a, err := symbols.Addr(symbol)
		if err != nil {
			return nil, err
		}
		*at = a
	}
	t.from &^= pageSize - 1
	if t.to < t.from || t.to-t.from > maxCode {
		return nil, fmt.Errorf("%w: code from %#x to %#x", errNoKernel, t.from, t.to)
	}
	var err error
	if t.jumps, err = readJumps(symbols, v, t.from, t.to); err != nil {
		return nil, err
	}
	err = t.walk(v, unhook, func(_ uint64, s sum) { t.sums = append(t.sums, s) }, nil)
	return t, err
}

var errNoKernel = errors.New("that is no kernel")

// changed gives the addresses of pages, and of jump labels, that are not as they were.
func (t *text) changed(v introspect.View, unhook func(uint64, []byte)) (all []uint64, err error) {
	err = t.walk(v, unhook, func(at uint64, s sum) {
		if t.sums[(at-t.from)/pageSize] != s {
			all = append(all, at)
		}
	}, func(j jump) { all = append(all, j.at) })
	slices.Sort(all)
	return all, err
}

// walk gives the digest of each page to page, and jump labels that are in neither of their
// forms to odd, unless that is nil.
func (t *text) walk(v introspect.View, unhook func(uint64, []byte), page func(at uint64, s sum), odd func(jump)) error {
	buf := make([]byte, chunk+maxJump)
	for at := t.from; at < t.to; at += chunk {
		code := buf[:min(chunk+maxJump, t.to-at)]
		if err := v.ReadAt(code, at); err != nil {
			return fmt.Errorf("it cannot be read at %#x: %w", at, err)
		}
		if unhook != nil {
			unhook(at, code)
		}
		first := sort.Search(len(t.jumps), func(i int) bool { return t.jumps[i].at+maxJump > at })
		for _, j := range t.jumps[first:] {
			if j.at >= at+uint64(len(code)) {
				break
			}
			begin, end := int64(j.at-at), int64(j.at-at)+int64(j.size)
			if begin >= 0 && end <= int64(len(code)) && begin < chunk && odd != nil && !j.known(code[begin:end]) {
				odd(j)
			}
			clear(code[min(max(begin, 0), end):max(min(end, int64(len(code))), 0)])
		}
		whole := code[:min(chunk, uint64(len(code)))]
		for off := 0; off < len(whole); off += pageSize {
			page(at+uint64(off), sha256.Sum256(whole[off:min(off+pageSize, len(whole))]))
		}
	}
	return nil
}

// A jump is a jump label (Documentation/staging/static-keys.rst): a place in the code
// where there is either an instruction that does nothing or a jump to target.
type jump struct {
	at, target uint64
	size       int
}

const (
	// maxJump is the size of the longest one.
	maxJump = 5
	// entrySize is that of struct jump_entry with relative addresses
	// (include/linux/jump_label.h), which amd64 and arm64 have.
	entrySize = 16
	maxJumps  = 1 << 18
)

var le = binary.LittleEndian

// readJumps reads the kernel's list of jump labels in its code.
func readJumps(symbols symbols, v introspect.View, from, to uint64) ([]jump, error) {
	start, err := symbols.Addr("__start___jump_table")
	if err != nil {
		return nil, err
	}
	stop, err := symbols.Addr("__stop___jump_table")
	if err != nil {
		return nil, err
	}
	if stop < start || stop-start > maxJumps*entrySize {
		return nil, fmt.Errorf("%w: jump labels from %#x to %#x", errNoKernel, start, stop)
	}
	table := make([]byte, stop-start)
	if err := v.ReadAt(table, start); err != nil {
		return nil, fmt.Errorf("its jump labels cannot be read: %w", err)
	}
	relative := func(off uint64) uint64 { return start + off + uint64(int64(int32(le.Uint32(table[off:])))) }
	var all []jump
	for off := uint64(0); off+entrySize <= uint64(len(table)); off += entrySize {
		j := jump{at: relative(off), target: relative(off + 4)}
		if j.at < from || j.at+maxJump > to {
			continue // it was for the boot alone
		}
		var code [maxJump]byte
		if err := v.ReadAt(code[:], j.at); err != nil {
			return nil, fmt.Errorf("a jump label cannot be read: %w", err)
		}
		for _, j.size = range []int{2, 4, 5} {
			if j.known(code[:j.size]) {
				all = append(all, j)
				break
			}
		}
	}
	slices.SortFunc(all, func(a, b jump) int {
		if a.at < b.at {
			return -1
		}
		return 1
	})
	return all, nil
}

// known says whether code is one of the two forms of a jump label. Those of 4 bytes are
// arm64's, and the others amd64's.
func (j jump) known(code []byte) bool {
	switch len(code) {
	case 2: // xchg %ax,%ax; jmp rel8
		return code[0] == 0x66 && code[1] == 0x90 || code[0] == 0xeb && j.at+2+uint64(int64(int8(code[1]))) == j.target
	case 4: // nop; b (Arm ARM, C6.2)
		w := le.Uint32(code)
		return w == 0xd503201f || w>>26 == 0x05 && j.at+uint64(int64(int32(w<<6))>>4) == j.target
	case 5: // nopl 0(%rax,%rax,1); jmp rel32
		return code[0] == 0x0f && code[1] == 0x1f && code[2] == 0x44 && code[3] == 0 && code[4] == 0 ||
			code[0] == 0xe9 && j.at+5+uint64(int64(int32(le.Uint32(code[1:])))) == j.target
	}
	return false
}
