package acpi

import (
	"encoding/binary"
	"slices"
)

// The part of the ACPI machine language (ACPI 6.5, section 20.2) that the DSDT
// here is made of. A function returns the bytes of one term.

const (
	opName        = 0x08
	opBytePrefix  = 0x0a
	opWordPrefix  = 0x0b
	opDWordPrefix = 0x0c
	opString      = 0x0d
	opQWordPrefix = 0x0e
	opScope       = 0x10
	opBuffer      = 0x11
	opPackage     = 0x12
	opMethod      = 0x14
	opExt         = 0x5b
	opLocal0      = 0x60
	opStore       = 0x70
	opAnd         = 0x7b
	opNotify      = 0x86
	opIf          = 0xa0

	extOpRegion = 0x80
	extField    = 0x81
	extDevice   = 0x82

	fieldByteAccess = 1 // ByteAcc, NoLock, Preserve
	methodOneArg    = 1
	methodSerial    = 1 << 3
)

// pkg puts the length (PkgLength, section 20.2.4) before body: its own bytes
// count, too.
func pkg(body []byte) []byte { return append(pkgLength(len(body), true), body...) }

// pkgLength encodes n, with the length of the encoding itself where own is set.
func pkgLength(n int, own bool) []byte {
	if !own {
		// Lengths of fields count bits and nothing else.
		return encodePkgLength(n, lengthBytes(n))
	}
	for size := 1; ; size++ {
		if lengthBytes(n+size) <= size {
			return encodePkgLength(n+size, size)
		}
	}
}

func lengthBytes(n int) int {
	switch {
	case n < 1<<6:
		return 1
	case n < 1<<12:
		return 2
	case n < 1<<20:
		return 3
	}
	return 4
}

func encodePkgLength(n, size int) []byte {
	if size == 1 {
		return []byte{byte(n)}
	}
	b := []byte{byte(size-1)<<6 | byte(n&0xf)}
	for n >>= 4; len(b) < size; n >>= 8 {
		b = append(b, byte(n))
	}
	return b
}

func term(op byte, parts ...[]byte) []byte { return append([]byte{op}, slices.Concat(parts...)...) }

func extTerm(op byte, parts ...[]byte) []byte { return append([]byte{opExt}, term(op, parts...)...) }

func scope(name string, terms ...[]byte) []byte {
	return term(opScope, pkg(append(seg(name), slices.Concat(terms...)...)))
}

func device(name string, terms ...[]byte) []byte {
	return extTerm(extDevice, pkg(append(seg(name), slices.Concat(terms...)...)))
}

func named(name string, value []byte) []byte { return term(opName, seg(name), value) }

func method(name string, flags byte, terms ...[]byte) []byte {
	return term(opMethod, pkg(slices.Concat(seg(name), []byte{flags}, slices.Concat(terms...))))
}

func packageOf(terms ...[]byte) []byte {
	return term(opPackage, pkg(append([]byte{byte(len(terms))}, slices.Concat(terms...)...)))
}

func buffer(data []byte) []byte {
	return term(opBuffer, pkg(append(integer(uint64(len(data))), data...)))
}

func region(name string, space Space, addr uint64, size uint64) []byte {
	return extTerm(extOpRegion, seg(name), []byte{byte(space)}, integer(addr), integer(size))
}

// byteField names the first 8 bits of a region.
func byteField(region, name string) []byte {
	return extTerm(extField, pkg(slices.Concat(seg(region), []byte{fieldByteAccess}, seg(name), pkgLength(8, false))))
}

func ifSet(value []byte, mask uint64, terms ...[]byte) []byte {
	and := term(opAnd, value, integer(mask), []byte{0}) // the result goes nowhere else
	return term(opIf, pkg(append(and, slices.Concat(terms...)...)))
}

// seg encodes a name of one segment: four characters. A guest looks for it in
// the scope at hand, then in those around it (section 5.3).
func seg(name string) []byte { return []byte(name) }

func integer(v uint64) []byte {
	switch {
	case v <= 1:
		return []byte{byte(v)}
	case v <= 0xff:
		return []byte{opBytePrefix, byte(v)}
	case v <= 0xffff:
		return binary.LittleEndian.AppendUint16([]byte{opWordPrefix}, uint16(v))
	case v <= 0xffff_ffff:
		return binary.LittleEndian.AppendUint32([]byte{opDWordPrefix}, uint32(v))
	}
	return binary.LittleEndian.AppendUint64([]byte{opQWordPrefix}, v)
}

func str(s string) []byte { return append(append([]byte{opString}, s...), 0) }

// eisaID is the compressed form of an identifier such as PNP0501, section
// 19.3.4: three letters of 5 bits, four digits of 4, in big-endian order.
func eisaID(id string) []byte {
	v := uint32(id[0]-'@')<<26 | uint32(id[1]-'@')<<21 | uint32(id[2]-'@')<<16
	for i, c := range []byte(id[3:]) {
		d := uint32(c - '0')
		if c >= 'A' {
			d = uint32(c-'A') + 10
		}
		v |= d << (12 - 4*i)
	}
	return binary.BigEndian.AppendUint32([]byte{opDWordPrefix}, v)
}

// Resource descriptors, section 6.4; resources closes a list of them.

func resources(descriptors ...[]byte) []byte {
	const endTag = 0x79
	return buffer(append(slices.Concat(descriptors...), endTag, 0))
}

func ioPorts(base uint16, n byte) []byte {
	const tag, decode16 = 0x47, 1
	b := []byte{tag, decode16}
	b = binary.LittleEndian.AppendUint16(b, base)
	b = binary.LittleEndian.AppendUint16(b, base)
	return append(b, 1, n)
}

func memory32(base, size uint32) []byte {
	const tag, bodyLen, readWrite = 0x86, 9, 1
	b := []byte{tag, bodyLen, 0, readWrite}
	b = binary.LittleEndian.AppendUint32(b, base)
	return binary.LittleEndian.AppendUint32(b, size)
}

// edge is an edge-triggered, active-high interrupt that is nobody else's.
func edge(gsi uint32) []byte {
	const tag, bodyLen, consumer, edgeTriggered = 0x89, 6, 1 << 0, 1 << 1
	return binary.LittleEndian.AppendUint32([]byte{tag, bodyLen, 0, consumer | edgeTriggered, 1}, gsi)
}
