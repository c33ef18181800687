package diskimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// disk is an image that is looked at.
type disk struct {
	r    io.ReaderAt
	size int64
}

// read reads n bytes at off, zeros where the image has ended.
func (d disk) read(off, n int64) ([]byte, error) {
	b := make([]byte, n)
	if _, err := d.r.ReadAt(b, off); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// A part is a partition.
type part struct {
	number       int
	kind         string // the type's GUID as it is on disk; "" in an MBR
	offset, size int64  // bytes
	what         string // is in it; "" when that is not known
}

func (p part) content() string {
	if p.what == "" {
		return "nothing that is known"
	}
	return p.what
}

// rootType are the types of root partitions, by architecture: mixed-endian, as in
// appendix A of the UEFI specification.
var rootType = map[string]string{
	"amd64": "\xe3\xbc\x68\x4f\xcd\xe8\xb1\x4d\x96\xe7\xfb\xca\xf9\x84\xb7\x09", // 4f68bce3-e8cd-4db1-96e7-fbcaf984b709
	"arm64": "\x45\xb0\x21\xb9\xf0\x1d\xc3\x41\xaf\x44\x4c\x6f\x28\x0d\x3f\xae", // b921b045-1df0-41c3-af44-4c6f280d3fae
}

const (
	sector   = 512
	mbrTable = 446
	mbrEntry = 16
	// gptProtective is the type of the one partition that an MBR before a GPT has.
	gptProtective = 0xee

	gptHeader  = 92
	gptEntry   = 128
	maxEntries = 1024 // there are 128 but for a good reason
)

// partitions reads the table of partitions, none where there is no table.
func (d disk) partitions() ([]part, error) {
	b, err := d.read(0, sector)
	if err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint16(b[510:]) != 0xaa55 {
		return nil, nil
	}
	var parts []part
	for i := range 4 {
		e := b[mbrTable+i*mbrEntry:][:mbrEntry]
		start, n := int64(binary.LittleEndian.Uint32(e[8:])), int64(binary.LittleEndian.Uint32(e[12:]))
		switch kind := e[4]; {
		case kind == gptProtective:
			return d.gpt()
		case kind != 0 && n != 0:
			parts = append(parts, part{number: i + 1, offset: start * sector, size: n * sector})
		}
	}
	return d.examine(parts)
}

// gpt reads the table of a GPT.
func (d disk) gpt() ([]part, error) {
	for _, block := range []int64{sector, 4096} {
		h, err := d.read(block, gptHeader)
		if err != nil {
			return nil, err
		}
		if bytes.HasPrefix(h, []byte("EFI PART")) {
			return d.gptEntries(h, block)
		}
	}
	return nil, errors.New("its MBR says that there is a GPT, and there is none")
}

var errGPT = errors.New("its GPT is damaged: gdisk may mend it")

func (d disk) gptEntries(h []byte, block int64) ([]part, error) {
	le := binary.LittleEndian
	at, n, size := le.Uint64(h[72:]), int64(le.Uint32(h[80:])), int64(le.Uint32(h[84:]))
	sum, sumOfEntries := le.Uint32(h[16:]), le.Uint32(h[88:])
	clear(h[16:20])
	switch {
	case le.Uint32(h[12:]) != gptHeader || crc32.ChecksumIEEE(h) != sum, at > uint64(d.size/block):
		return nil, errGPT
	case n > maxEntries || size < gptEntry || size > block:
		return nil, fmt.Errorf("its GPT has %d entries of %d bytes: there can be %d of %d to %d", n, size, maxEntries, gptEntry, block)
	}
	table, err := d.read(int64(at)*block, n*size)
	if err != nil {
		return nil, err
	}
	if crc32.ChecksumIEEE(table) != sumOfEntries {
		return nil, errGPT
	}
	var parts []part
	for i := range n {
		e := table[i*size:][:gptEntry]
		kind, first, last := string(e[:16]), le.Uint64(e[32:]), le.Uint64(e[40:])
		if kind == string(make([]byte, 16)) {
			continue
		}
		if first > last || last >= uint64(d.size/block) {
			return nil, fmt.Errorf("its partition %d ends behind the image: is all of it here?", i+1)
		}
		parts = append(parts, part{number: int(i) + 1, kind: kind, offset: int64(first) * block, size: int64(last-first+1) * block})
	}
	return d.examine(parts)
}

// examine finds out what is in partitions.
func (d disk) examine(parts []part) (_ []part, err error) {
	for i := range parts {
		p := &parts[i]
		if p.offset > d.size || p.size > d.size-p.offset {
			return nil, fmt.Errorf("its partition %d ends behind the image: is all of it here?", p.number)
		}
		if p.what, err = d.identify(p.offset, p.size); err != nil {
			return nil, err
		}
	}
	return parts, nil
}
