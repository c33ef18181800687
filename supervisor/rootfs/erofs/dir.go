package erofs

import (
	"encoding/binary"
	"iter"
)

// The types of files in a directory.
var direntTypes = map[uint32]byte{
	TypeRegular: 1, TypeDir: 2, TypeChar: 3, TypeBlock: 4, TypeFIFO: 5, TypeSocket: 6, TypeSymlink: 7,
}

// chunk is the entries in one block of a directory.
type chunk struct {
	entries []entry
	size    int64
	rest    []entry // for the blocks behind
}

// chunks shares entries out to blocks.
func chunks(all []entry) iter.Seq[chunk] {
	return func(yield func(chunk) bool) {
		for len(all) > 0 {
			n, size := 0, 0
			for n < len(all) && size+direntSize+len(all[n].name) <= BlockSize {
				size += direntSize + len(all[n].name)
				n++
			}
			if !yield(chunk{all[:n], int64(size), all[n:]}) {
				return
			}
			all = all[n:]
		}
	}
}

// encodeDir gives the content of a directory. In each block there are first the
// entries and then their names; all blocks but the last are filled up.
func encodeDir(all []entry) []byte {
	var b []byte
	for c := range chunks(all) {
		name := len(c.entries) * direntSize
		for _, e := range c.entries {
			b = binary.LittleEndian.AppendUint64(b, e.to.number())
			b = binary.LittleEndian.AppendUint16(b, uint16(name))
			b = append(b, direntTypes[e.to.node.Mode&TypeMask], 0)
			name += len(e.name)
		}
		for _, e := range c.entries {
			b = append(b, e.name...)
		}
		if len(c.rest) > 0 {
			b = append(b, make([]byte, BlockSize-c.size)...)
		}
	}
	return b
}
