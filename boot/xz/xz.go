// Package xz reads .xz files (The .xz File Format 1.2.1) as the kernel's build
// writes them: with the filters for machine code that compress a kernel better,
// which the LZMA library below does not know.
package xz

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

const (
	streamMagic      = "\xfd7zXZ\x00"
	streamHeaderSize = 12
	maxBlockHeader   = 1024

	// maxDict is the largest history that a stream may ask for: it is allocated
	// before anything is read.
	maxDict = 128 << 20
)

// ErrFormat is returned for what is no .xz file, or no whole one.
var ErrFormat = errors.New("xz: damaged or no xz data")

// A Reader reads the first stream of a .xz file.
type Reader struct {
	r     *bufio.Reader
	check checkType
	block *block
	err   error
}

// NewReader reads the headers of the stream in r and of its first block.
func NewReader(r io.Reader) (*Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	var h [streamHeaderSize]byte
	if _, err := io.ReadFull(b, h[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if string(h[:6]) != streamMagic || h[6] != 0 || h[7]&0xf0 != 0 ||
		crc32.ChecksumIEEE(h[6:8]) != binary.LittleEndian.Uint32(h[8:]) {
		return nil, ErrFormat
	}
	z := &Reader{r: b, check: checkType(h[7])}
	if _, err := z.check.new(); err != nil {
		return nil, err
	}
	z.nextBlock()
	if z.err != nil && z.err != io.EOF {
		return nil, z.err
	}
	return z, nil
}

// Read reads expanded data; io.EOF comes when all blocks were whole.
func (z *Reader) Read(p []byte) (n int, err error) {
	for n == 0 && len(p) > 0 {
		if z.err != nil {
			return 0, z.err
		}
		n, err = z.block.Read(p)
		if err == io.EOF {
			z.nextBlock()
		} else {
			z.err = err
		}
	}
	return n, nil
}

// nextBlock begins a block, or ends the stream when its index comes.
func (z *Reader) nextBlock() {
	z.block, z.err = newBlock(z.r, z.check)
}

// A block is a header, compressed data and a check of what it expands to.
type block struct {
	packed  *counter
	data    io.Reader // all filters undone
	size    int64     // of what was read of data
	sum     check
	checked bool

	wantPacked, wantSize int64 // or -1
}

// newBlock reads a header (section 3.1). It returns io.EOF at the index, which
// has nothing that the blocks and their checks have not.
func newBlock(r *bufio.Reader, ct checkType) (*block, error) {
	n, err := r.ReadByte()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, eofIsUnexpected(err))
	}
	if n == 0 {
		return nil, io.EOF
	}
	h := make([]byte, (int(n)+1)*4)
	h[0] = n
	if _, err := io.ReadFull(r, h[1:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, eofIsUnexpected(err))
	}
	body, sum := h[:len(h)-4], h[len(h)-4:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return nil, fmt.Errorf("%w: a block's header", ErrFormat)
	}
	const reserved, hasPacked, hasSize = 0x3c, 1 << 6, 1 << 7
	flags := body[1]
	if flags&reserved != 0 {
		return nil, fmt.Errorf("%w: unknown flags %#x", ErrFormat, flags)
	}
	b := &block{packed: &counter{r: r}, wantPacked: -1, wantSize: -1}
	fields := bytes.NewReader(body[2:])
	if flags&hasPacked != 0 {
		b.wantPacked, err = varint(fields)
	}
	if err == nil && flags&hasSize != 0 {
		b.wantSize, err = varint(fields)
	}
	if err != nil {
		return nil, err
	}
	if b.data, err = filters(fields, int(flags&3)+1, b.packed); err != nil {
		return nil, err
	}
	b.sum, err = ct.new()
	return b, err
}

// Read reads the block's expanded data and, at its end, the check.
func (b *block) Read(p []byte) (int, error) {
	n, err := b.data.Read(p)
	b.size += int64(n)
	b.sum.Write(p[:n])
	if err == io.EOF && !b.checked {
		b.checked = true
		if err := b.finish(); err != nil {
			return n, err
		}
	}
	return n, err
}

// finish reads padding and check (sections 3.3 and 3.4).
func (b *block) finish() error {
	if b.wantPacked >= 0 && b.packed.n != b.wantPacked || b.wantSize >= 0 && b.size != b.wantSize {
		return fmt.Errorf("%w: a block of %d bytes with %d expanded", ErrFormat, b.packed.n, b.size)
	}
	tail := make([]byte, int(-b.packed.n&3)+b.sum.Size())
	if _, err := io.ReadFull(b.packed, tail); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, eofIsUnexpected(err))
	}
	padding, sum := tail[:len(tail)-b.sum.Size()], tail[len(tail)-b.sum.Size():]
	if len(bytes.Trim(padding, "\x00")) != 0 || !bytes.Equal(sum, b.sum.value()) {
		return fmt.Errorf("%w: a block's check fails", ErrFormat)
	}
	return nil
}

// Filter ids, section 5.3.
const (
	filterX86   = 0x04
	filterARM64 = 0x0a
	filterLZMA2 = 0x21
)

// filters reads n filter flags and returns the reader that undoes all of them:
// the last filter comes first.
func filters(fields *bytes.Reader, n int, packed io.Reader) (io.Reader, error) {
	var code []func(io.Reader) io.Reader
	for i := range n {
		id, err := varint(fields)
		if err != nil {
			return nil, err
		}
		size, err := varint(fields)
		if err != nil || size > maxBlockHeader {
			return nil, fmt.Errorf("%w: a filter's properties", ErrFormat)
		}
		props := make([]byte, size)
		if _, err := io.ReadFull(fields, props); err != nil {
			return nil, fmt.Errorf("%w: a filter's properties", ErrFormat)
		}
		last := i == n-1
		switch {
		case id == filterLZMA2 && last && size == 1:
			r, err := newLZMA2(props[0], packed)
			for len(code) > 0 && err == nil {
				r = code[len(code)-1](r)
				code = code[:len(code)-1]
			}
			return r, err
		case (id == filterX86 || id == filterARM64) && !last && size == 0:
			code = append(code, func(r io.Reader) io.Reader { return newCodeReader(r, id) })
		default:
			return nil, fmt.Errorf("xz: unsupported filter %#x", id)
		}
	}
	return nil, ErrFormat
}

func newLZMA2(bits byte, packed io.Reader) (io.Reader, error) {
	const largest = 40 // 4 GiB - 1, section 5.3.1
	if bits > largest {
		return nil, fmt.Errorf("%w: dictionary of size %#x", ErrFormat, bits)
	}
	size := int64(2|bits&1) << (bits/2 + 11)
	if size > maxDict {
		return nil, fmt.Errorf("xz: the stream asks for too much memory, a dictionary of %d MiB; at most %d are accepted",
			size>>20, maxDict>>20)
	}
	return lzma.Reader2Config{DictCap: int(size)}.NewReader2(packed)
}

// varint reads an integer of 7 bits a byte, at most 63 bits (section 1.2).
func varint(r *bytes.Reader) (int64, error) {
	v, err := binary.ReadUvarint(r)
	if err != nil || v > 1<<63-1 {
		return 0, fmt.Errorf("%w: a block's header", ErrFormat)
	}
	return int64(v), nil
}

// counter counts what is read through it. It reads single bytes, too, so that
// nobody reads ahead.
type counter struct {
	r *bufio.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *counter) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

func eofIsUnexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
