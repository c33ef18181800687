package introspect

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrNoKallsyms is the error for a kernel without a symbol table that we can
// read: built without CONFIG_KALLSYMS, or with one laid out in a way that is
// not known here.
var ErrNoKallsyms = errors.New("no kallsyms table found in the kernel: CONFIG_KALLSYMS is off, or its layout is unknown; without it only dump works")

// The tables, as scripts/kallsyms.c of the kernel writes them, each aligned to
// 8 bytes:
//
//	num_syms       u32
//	names          per symbol: length in bytes (ULEB128, at most two bytes),
//	               then that many token numbers; the first character of the
//	               expanded name is the symbol's type
//	markers        u32 offsets into names of every 256th symbol
//	seqs_of_names  3 bytes a symbol (6.2 to 6.3 and kernels with it backported)
//	token_table    256 strings
//	token_index    256 u16 offsets into token_table
//	offsets        u32 a symbol       } before num_syms
//	relative_base  u64                } up to 6.3
//
// No header tells where they are. The token table gives itself away: the ten
// digits are tokens of their own, one after another, at number 48; its index
// then confirms every one of the 256 strings.
const (
	tokens      = 256
	digitToken  = '0'
	markerEvery = 256
	maxSymbols  = 4 << 20
	// Linux' own bound of a name (KSYM_NAME_LEN), and ours of all together: a
	// table of a guest's making could expand without end.
	maxSymbolName = 512
	maxSymbolText = 64 << 20
	// Bounds on a name's compressed length, for sorting out candidates.
	minNameBytes = 2
	maxNameBytes = 64
	// searchBack is how far before the token table the markers may end: the
	// sequence table's three bytes a symbol lie between.
	searchBack = 3*maxSymbols/2 + 64
)

type kallsyms struct {
	data  []byte // the segment that holds the tables
	token [tokens][]byte

	tokenTable, afterIndex int // offsets in data
	names, markers         int
	n                      int
}

func findKallsyms(im *image) (*Symbols, error) {
	digits := []byte("0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00")
	for _, seg := range im.segments {
		for at := 0; ; at++ {
			i := bytes.Index(seg.data[at:], digits)
			if i < 0 {
				break
			}
			at += i
			k := &kallsyms{data: seg.data}
			if !k.readTokens(at) || !k.findNames() {
				continue
			}
			if syms := k.symbols(im); syms != nil {
				return newSymbols(syms), nil
			}
		}
	}
	return nil, ErrNoKallsyms
}

func align8(n int) int { return (n + 7) &^ 7 }

// readTokens takes the position of the digit tokens, finds the table's start
// through the index behind it and checks all 256 entries of both.
func (k *kallsyms) readTokens(digits int) bool {
	end := digits
	for range tokens - digitToken {
		i := bytes.IndexByte(k.data[end:min(end+256, len(k.data))], 0)
		if i < 0 {
			return false
		}
		end += i + 1
	}
	index := align8(end)
	if index+2*tokens > len(k.data) {
		return false
	}
	at := func(i int) int { return int(le.Uint16(k.data[index+2*i:])) }
	k.tokenTable = digits - at(digitToken)
	if k.tokenTable < 0 || at(0) != 0 {
		return false
	}
	for i := range tokens {
		start, next := k.tokenTable+at(i), end
		if i+1 < tokens {
			next = k.tokenTable + at(i+1)
		}
		if next <= start || next > end || k.data[next-1] != 0 {
			return false
		}
		k.token[i] = k.data[start : next-1]
		if bytes.IndexByte(k.token[i], 0) >= 0 {
			return false
		}
	}
	k.afterIndex = index + 2*tokens
	return true
}

// findNames looks backwards from the token table for the markers, then for
// the names that they mark.
func (k *kallsyms) findNames() bool {
	u32 := func(off int) int { return int(le.Uint32(k.data[off:])) }
	lowest := max(k.tokenTable-searchBack, 0)
	for q := k.tokenTable &^ 7; q >= lowest; q -= 8 {
		if q+8 > len(k.data) || u32(q) != 0 || !markerStep(u32(q+4)) {
			continue
		}
		m := 1
		for q+4*m+4 <= k.tokenTable && markerStep(u32(q+4*m)-u32(q+4*m-4)) {
			m++
		}
		if k.matchNames(q, m) {
			return true
		}
	}
	return false
}

func markerStep(d int) bool {
	return d >= markerEvery*minNameBytes && d <= markerEvery*maxNameBytes
}

// matchNames tries the names that would end where m markers at off begin.
// What follows the true last marker may look like one more marker, so m is an
// upper bound.
func (k *kallsyms) matchNames(off, m int) bool {
	for ; m > 0; m-- {
		last := int(le.Uint32(k.data[off+4*(m-1):]))
		// The names start at most one block before the last marked one ends.
		for names := (off - last) &^ 7; names >= max(off-last-markerEvery*maxNameBytes, 8); names -= 8 {
			// num_syms is a u32 aligned to 8, the names follow aligned to 8.
			n := int(le.Uint32(k.data[names-8:]))
			if n == 0 || n > maxSymbols || (n+markerEvery-1)/markerEvery != m {
				continue
			}
			if k.checkNames(names, off, n) {
				k.names, k.markers, k.n = names, off, n
				return true
			}
		}
	}
	return false
}

// checkNames walks all n names and compares each 256th position with its marker.
func (k *kallsyms) checkNames(names, markers, n int) bool {
	pos := names
	for i := range n {
		if i%markerEvery == 0 && int(le.Uint32(k.data[markers+4*(i/markerEvery):])) != pos-names {
			return false
		}
		length, size := nameLength(k.data[pos:markers])
		if length == 0 || pos+size+length > markers {
			return false
		}
		pos += size + length
	}
	return align8(pos) == markers
}

// nameLength decodes the length in front of a compressed name and says how
// many bytes it took; 0, 0 when malformed.
func nameLength(p []byte) (length, size int) {
	switch {
	case len(p) == 0:
		return 0, 0
	case p[0] < 0x80:
		return int(p[0]), 1
	case len(p) < 2 || p[1] >= 0x80:
		return 0, 0
	}
	return int(p[0]&0x7f) | int(p[1])<<7, 2
}

// symbols expands the names and gives them their addresses; nil when neither
// place for the addresses holds a plausible table.
func (k *kallsyms) symbols(im *image) []Symbol {
	addrs := k.addresses(im, align8(k.afterIndex))
	if addrs == nil {
		// Up to 6.3: offsets, relative_base, num_syms, names.
		addrs = k.addresses(im, k.names-8-8-align8(4*k.n))
	}
	if addrs == nil {
		return nil
	}
	syms := make([]Symbol, k.n)
	pos := k.names
	left := maxSymbolText
	var name []byte
	for i := range syms {
		length, size := nameLength(k.data[pos:])
		name = name[:0]
		for _, t := range k.data[pos+size : pos+size+length] {
			if name = append(name, k.token[t]...); len(name) > maxSymbolName {
				return nil
			}
		}
		if left -= len(name); len(name) < 2 || left < 0 {
			return nil
		}
		syms[i] = Symbol{Name: string(name[1:]), Type: name[0], Addr: addrs[i]}
		pos += size + length
	}
	return syms
}

// addresses reads the offsets at off with the base behind them. The result is
// nil unless it is sorted, which no other table of this length would be.
//
// With CONFIG_KALLSYMS_ABSOLUTE_PERCPU (x86) a value that is not negative is
// the address itself and a negative one counts down from base-1; otherwise
// all are unsigned and relative to base (kernel/kallsyms.c, kallsyms_sym_address).
func (k *kallsyms) addresses(im *image, off int) []uint64 {
	baseAt := align8(off + 4*k.n)
	if off < 0 || baseAt+8 > len(k.data) {
		return nil
	}
	base := le.Uint64(k.data[baseAt:])
	if im.flat {
		// The word is filled in by the kernel's self-relocation; _text is its
		// value on arm64 and our link address 0.
		base = 0
	}
	offsets := k.data[off : off+4*k.n]
	for _, absolutePerCPU := range []bool{im.arch == "amd64", false} {
		addrs := make([]uint64, k.n)
		sorted := true
		for i := range addrs {
			v := le.Uint32(offsets[4*i:])
			switch {
			case !absolutePerCPU:
				addrs[i] = base + uint64(v)
			case int32(v) >= 0:
				addrs[i] = uint64(v)
			default:
				addrs[i] = base - 1 - uint64(int64(int32(v)))
			}
			if i > 0 && addrs[i] < addrs[i-1] {
				sorted = false
				break
			}
		}
		// The last symbols are of the kernel itself, not per-CPU offsets.
		if sorted && addrs[k.n-1] > addrs[0] && addrs[k.n-1] >= base {
			return addrs
		}
	}
	return nil
}

func (k *kallsyms) String() string {
	return fmt.Sprintf("%d symbols, names at %#x, markers at %#x, tokens at %#x", k.n, k.names, k.markers, k.tokenTable)
}
