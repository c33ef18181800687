package fat

import (
	"encoding/binary"
	"time"
	"unicode/utf16"
)

const (
	entrySize     = 32
	attrVolume    = 0x08
	attrDirectory = 0x10
	attrArchive   = 0x20
	attrLongName  = 0x0f
	longNamePart  = 13   // characters in an entry
	lastLongName  = 0x40 // marks the first of them in the directory
)

// directory is what is in a directory (section 6).
func (v *volume) directory(n *node) (b []byte) {
	if n.up == nil {
		b = v.entry(b, [11]byte([]byte(v.label())), attrVolume, 0, 0)
	} else {
		up := n.up.cluster
		if n.up.up == nil {
			up = 0 // that is how the root is called here
		}
		b = v.entry(b, [11]byte([]byte(".          ")), attrDirectory, n.cluster, 0)
		b = v.entry(b, [11]byte([]byte("..         ")), attrDirectory, up, 0)
	}
	for _, inner := range n.inner {
		parts := longName(inner.name())
		for i := len(parts) - 1; i >= 0; i-- {
			b = longEntry(b, parts[i], i+1, i == len(parts)-1, checksum(inner.short))
		}
		attr := byte(attrArchive)
		if inner.dir {
			attr = attrDirectory
		}
		b = v.entry(b, inner.short, attr, inner.cluster, inner.size)
	}
	return b
}

func (v *volume) entry(b []byte, name [11]byte, attr byte, cluster, size int64) []byte {
	le := binary.LittleEndian
	date, clock := stamp(v.Time)
	b = append(append(b, name[:]...), attr, 0, 0)
	b = le.AppendUint16(b, clock) // made
	b = le.AppendUint16(b, date)
	b = le.AppendUint16(b, date) // read
	b = le.AppendUint16(b, uint16(cluster>>16))
	b = le.AppendUint16(b, clock) // written
	b = le.AppendUint16(b, date)
	b = le.AppendUint16(b, uint16(cluster))
	return le.AppendUint32(b, uint32(size))
}

// stamp is a time in two numbers; time starts in 1980.
func stamp(t time.Time) (date, clock uint16) {
	if t = t.UTC(); t.Year() < 1980 {
		t = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	date = uint16((t.Year()-1980)<<9 | int(t.Month())<<5 | t.Day())
	return date, uint16(t.Hour()<<11 | t.Minute()<<5 | t.Second()/2)
}

// longName is a name in the parts that have an entry each (section 7).
func longName(name string) (parts [][]uint16) {
	units := utf16.Encode([]rune(name))
	for len(units) >= longNamePart {
		parts = append(parts, units[:longNamePart])
		units = units[longNamePart:]
	}
	if len(units) > 0 {
		last := append(append(make([]uint16, 0, longNamePart), units...), 0)
		for len(last) < longNamePart {
			last = append(last, 0xffff)
		}
		parts = append(parts, last)
	}
	return parts
}

func longEntry(b []byte, part []uint16, number int, last bool, sum byte) []byte {
	if last {
		number |= lastLongName
	}
	b = append(b, byte(number))
	for i, unit := range part {
		switch i {
		case 5:
			b = append(b, attrLongName, 0, sum)
		case 11:
			b = append(b, 0, 0)
		}
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return b
}

// checksum ties a long name to its short one.
func checksum(short [11]byte) (sum byte) {
	for _, c := range short {
		sum = sum>>1 | sum<<7
		sum += c
	}
	return sum
}
