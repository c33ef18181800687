package erofs

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

const (
	magic = 0xe0f5e1e2
	// Features that a reader may ignore: there is a checksum of the superblock, and
	// times are of the last change.
	featureChecksum, featureMtime = 1, 2
	blockBits                     = 12

	layoutPlain, layoutInline = 0, 2 << 1
	inodeExtended             = 1
)

// Write writes the image of a tree and returns its size in bytes. The tree must
// not change meanwhile. An error of the tree begins with the path that it is about.
func Write(w io.Writer, root *Node) (int64, error) {
	p, err := makePlan(root)
	if err != nil {
		return 0, err
	}
	out := bufio.NewWriterSize(w, 256<<10)
	if err := p.writeInodes(out); err != nil {
		return 0, err
	}
	for _, i := range p.inodes {
		if i.blocks() == 0 {
			continue
		}
		if err := i.writeContent(out); err != nil {
			return 0, err
		}
		if err := pad(out, i.blocks()*BlockSize-i.size); err != nil {
			return 0, err
		}
	}
	return p.blocks * BlockSize, out.Flush()
}

// writeInodes writes all blocks before those of content.
func (p *plan) writeInodes(out io.Writer) error {
	first := &firstBlock{out: out} // its checksum comes before it
	if err := pad(first, superblockAt); err != nil {
		return err
	}
	if _, err := first.Write(p.superblock()); err != nil {
		return err
	}
	at := int64(firstInode)
	for _, i := range p.inodes {
		if err := pad(first, i.at-at); err != nil {
			return err
		}
		if _, err := first.Write(append(i.encode(), i.xattrs...)); err != nil {
			return err
		}
		at = i.at + i.header()
		if i.inline {
			if err := i.writeContent(first); err != nil {
				return err
			}
			at += i.size
		}
	}
	return pad(first, p.meta*BlockSize-at)
}

func (p *plan) superblock() []byte {
	b := make([]byte, superblockSize)
	le := binary.LittleEndian
	le.PutUint32(b[0:], magic)
	le.PutUint32(b[8:], featureChecksum|featureMtime)
	b[12] = blockBits
	le.PutUint16(b[14:], uint16(p.inodes[0].number()))
	le.PutUint64(b[16:], uint64(len(p.inodes)))
	le.PutUint32(b[36:], uint32(p.blocks))
	return b
}

// encode gives the inode itself.
func (i *inode) encode() []byte {
	b := make([]byte, inodeSize)
	le := binary.LittleEndian
	format := uint16(inodeExtended | layoutPlain)
	if i.inline {
		format |= layoutInline
	}
	le.PutUint16(b[0:], format)
	if len(i.xattrs) > 0 { // in units of 4 bytes, the header being one
		le.PutUint16(b[2:], uint16((len(i.xattrs)-xattrHeader)/4+1))
	}
	n := i.node
	le.PutUint16(b[4:], uint16(n.Mode))
	le.PutUint64(b[8:], uint64(i.size))
	switch n.Mode & TypeMask {
	case TypeChar, TypeBlock:
		le.PutUint32(b[16:], n.Minor&0xff|n.Major<<8|n.Minor&^0xff<<12)
	default:
		le.PutUint32(b[16:], uint32(i.block))
	}
	le.PutUint32(b[20:], uint32(i.number()))
	le.PutUint32(b[24:], n.UID)
	le.PutUint32(b[28:], n.GID)
	le.PutUint64(b[32:], n.Mtime)
	le.PutUint32(b[44:], i.links)
	return b
}

// writeContent writes what the inode holds, without filling it up.
func (i *inode) writeContent(out io.Writer) error {
	switch i.node.Mode & TypeMask {
	case TypeDir:
		_, err := out.Write(encodeDir(i.entries))
		return err
	case TypeSymlink:
		_, err := io.WriteString(out, i.node.Target)
		return err
	}
	if i.size == 0 {
		return nil
	}
	f, err := i.node.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(out, io.LimitReader(f, i.size))
	if err == nil && n != i.size {
		err = fmt.Errorf("a file that had %d bytes has %d now", i.size, n)
	}
	return err
}

// firstBlock puts a checksum into the first block that is written, which it is of.
type firstBlock struct {
	out  io.Writer
	held []byte
	done bool
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Write implements io.Writer.
func (f *firstBlock) Write(p []byte) (int, error) {
	if f.done {
		return f.out.Write(p)
	}
	n := min(len(p), BlockSize-len(f.held))
	f.held = append(f.held, p[:n]...)
	if len(f.held) < BlockSize {
		return n, nil
	}
	// The kernel's does not invert its result.
	sum := ^crc32.Checksum(f.held[superblockAt:], castagnoli)
	binary.LittleEndian.PutUint32(f.held[superblockAt+4:], sum)
	f.done = true
	if _, err := f.out.Write(f.held); err != nil {
		return 0, err
	}
	rest, err := f.out.Write(p[n:])
	return n + rest, err
}

var zeros [BlockSize]byte

func pad(w io.Writer, n int64) error {
	for n > 0 {
		k, err := w.Write(zeros[:min(n, BlockSize)])
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return nil
}
