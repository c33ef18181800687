package introspect

import (
	"bytes"
	"cmp"
	"regexp"
	"slices"
)

// A kernel built without CONFIG_KALLSYMS_ALL, as Debian's for arm64 are up to
// 6.1, has a symbol table of functions alone. Some of its variables are found by
// what they hold, and those that modules may use by the table of exported symbols.
// What is neither (the list of modules, the table of Unix sockets) is unknown, and
// questions about it say which symbol is missing.

// withVariables adds what can be found to the symbols of such a kernel.
func withVariables(im *image, functions *Symbols) *Symbols {
	if _, whole := functions.Lookup("linux_banner"); whole {
		return functions
	}
	found := im.exports()
	for _, seg := range im.segments {
		if off, ok := findBanner(seg.data); ok {
			found = append(found, Symbol{"linux_banner", 'R', seg.addr + uint64(off)})
		}
		if off, size, ok := findBTF(seg.data); ok {
			start := seg.addr + uint64(off)
			found = append(found, Symbol{"__start_BTF", 'R', start}, Symbol{"__stop_BTF", 'R', start + uint64(size)})
		}
	}
	all := functions.moved(found)
	found = slices.DeleteFunc(found, func(s Symbol) bool {
		_, known := functions.Lookup(s.Name)
		return known
	})
	all = append(all, found...)
	slices.SortStableFunc(all, func(a, b Symbol) int { return cmp.Compare(a.Addr, b.Addr) })
	return newSymbols(all)
}

// moved is the symbols at the addresses that the exported ones among them have. The
// table of an arm64 Image counts from its own lowest symbol, and without variables
// that is not the Image's first byte but its first function.
func (s *Symbols) moved(exported []Symbol) []Symbol {
	votes := make(map[uint64]int)
	for _, e := range exported {
		if f, ok := s.Lookup(e.Name); ok {
			votes[e.Addr-f.Addr]++
		}
	}
	by, most := uint64(0), 0
	for distance, n := range votes {
		if n > most || n == most && distance < by {
			by, most = distance, n
		}
	}
	all := slices.Clone(s.sorted)
	for i := range all {
		all[i].Addr += by
	}
	return all
}

// buildNumber tells the banner from formats, and from a weak one that the kernel is
// linked with before it has its number.
var buildNumber = regexp.MustCompile(`^Linux version \d.* #\d`)

// findBanner finds linux_banner (init/version.c).
func findBanner(data []byte) (off int, ok bool) {
	begin := []byte("Linux version ")
	for {
		i := bytes.Index(data[off:], begin)
		if i < 0 {
			return 0, false
		}
		off += i
		text := data[off:min(off+maxBanner, len(data))]
		end := bytes.IndexByte(text, 0)
		if end > 0 && text[end-1] == '\n' && buildNumber.Match(text[:end]) {
			return off, true
		}
		off += len(begin)
	}
}

// findBTF finds the types by their header, struct btf_header of include/uapi/linux/btf.h.
func findBTF(data []byte) (off, size int, ok bool) {
	const headerSize = 24
	header := []byte{0x9f, 0xeb, 1, 0, headerSize, 0, 0, 0} // magic, version, flags, hdr_len
	for {
		i := bytes.Index(data[off:], header)
		if i < 0 || off+i+headerSize > len(data) {
			return 0, 0, false
		}
		off += i
		types, typesSize := le.Uint32(data[off+8:]), le.Uint32(data[off+12:])
		names, namesSize := le.Uint32(data[off+16:]), le.Uint32(data[off+20:])
		whole := uint64(headerSize) + uint64(names) + uint64(namesSize)
		if types == 0 && names == typesSize && namesSize > 0 && whole <= uint64(len(data)-off) {
			return off, int(whole), true
		}
		off += len(header)
	}
}

// An exported symbol is a struct kernel_symbol (include/linux/export.h, from 5.4 on): where
// it is, its name and its name space, each relative to where that is written.
const (
	exportSize  = 12
	exportName  = 4
	exportSpace = 8
	maxExports  = 1 << 16
)

// exports returns the symbols that the kernel exports to modules.
func (im *image) exports() (found []Symbol) {
	const known = "init_task" // every kernel exports it
	for _, seg := range im.segments {
		at, ok := seg.exported(known)
		if !ok {
			continue
		}
		// The tables stand one behind the other, of ordinary symbols and of those
		// under the GPL.
		for off := at; len(found) < maxExports; off += exportSize {
			s, ok := seg.export(off)
			if !ok {
				break
			}
			found = append(found, s)
		}
		for off := at - exportSize; len(found) < maxExports; off -= exportSize {
			s, ok := seg.export(off)
			if !ok {
				break
			}
			found = append(found, s)
		}
		return found
	}
	return nil
}

// exported finds the exported symbol of a name.
func (seg segment) exported(name string) (off int, ok bool) {
	text := []byte("\x00" + name + "\x00")
	const maxTexts = 16
	for from, n := 0, 0; n < maxTexts; n++ {
		i := bytes.Index(seg.data[from:], text)
		if i < 0 {
			return 0, false
		}
		at := from + i + 1
		for off := 0; off+exportSize <= len(seg.data); off += 4 {
			// Cheap before exact: nearly nothing here points at the text.
			if seg.relative(off+exportName) != int64(at) {
				continue
			}
			if _, ok := seg.export(off); ok {
				return off, true
			}
		}
		from = at
	}
	return 0, false
}

// export reads the exported symbol at an offset, false where none can be.
func (seg segment) export(off int) (Symbol, bool) {
	if off < 0 || off+exportSize > len(seg.data) {
		return Symbol{}, false
	}
	name, ok := seg.word(off + exportName)
	_, ok2 := seg.word(off + exportSpace)
	if !ok || !ok2 || name == "" {
		return Symbol{}, false
	}
	return Symbol{name, 'D', seg.addr + uint64(seg.relative(off))}, true
}

// relative is the offset that is written at an offset, relative to that.
func (seg segment) relative(off int) int64 {
	return int64(off) + int64(int32(le.Uint32(seg.data[off:])))
}

// word reads the text that is pointed at from an offset: a name, one of modules
// ("module:kvm"), or nothing.
func (seg segment) word(off int) (string, bool) {
	at := seg.relative(off)
	if at < 0 || at >= int64(len(seg.data)) {
		return "", false
	}
	text := seg.data[at:min(at+maxSymbolName, int64(len(seg.data)))]
	end := bytes.IndexByte(text, 0)
	if end < 0 || bytes.ContainsFunc(text[:end], func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", false
	}
	return string(text[:end]), true
}
