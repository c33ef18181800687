package fs

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Names and layouts are those of include/uapi/linux/fuse.h. Both architectures are
// little endian.
var le = binary.LittleEndian

const (
	requestHeaderSize = 40
	replyHeaderSize   = 16

	attrSize   = 88
	entrySize  = 40 + attrSize
	attrReply  = 16 + attrSize
	openReply  = 16
	direntSize = 24
)

type opcode uint32

const (
	opLookup        opcode = 1
	opForget        opcode = 2
	opGetattr       opcode = 3
	opSetattr       opcode = 4
	opReadlink      opcode = 5
	opSymlink       opcode = 6
	opMknod         opcode = 8
	opMkdir         opcode = 9
	opUnlink        opcode = 10
	opRmdir         opcode = 11
	opRename        opcode = 12
	opLink          opcode = 13
	opOpen          opcode = 14
	opRead          opcode = 15
	opWrite         opcode = 16
	opStatfs        opcode = 17
	opRelease       opcode = 18
	opFsync         opcode = 20
	opFlush         opcode = 25
	opInit          opcode = 26
	opOpendir       opcode = 27
	opReaddir       opcode = 28
	opReleasedir    opcode = 29
	opFsyncdir      opcode = 30
	opCreate        opcode = 35
	opInterrupt     opcode = 36
	opDestroy       opcode = 38
	opBatchForget   opcode = 42
	opFallocate     opcode = 43
	opReaddirplus   opcode = 44
	opRename2       opcode = 45
	opLseek         opcode = 46
	opCopyFileRange opcode = 47
	opSyncfs        opcode = 50
)

// Bits of fuse_init_in.flags and fuse_init_out.flags.
const (
	initAsyncRead       = 1 << 0
	initAtomicTrunc     = 1 << 3
	initBigWrites       = 1 << 5
	initAutoInvalData   = 1 << 12
	initReaddirplus     = 1 << 13
	initReaddirplusAuto = 1 << 14
	initAsyncDirect     = 1 << 15
	initParallelDirs    = 1 << 18
	initMaxPages        = 1 << 22
)

// Bits of fuse_setattr_in.valid.
const (
	setMode     = 1 << 0
	setUID      = 1 << 1
	setGID      = 1 << 2
	setSize     = 1 << 3
	setAtime    = 1 << 4
	setMtime    = 1 << 5
	setHandle   = 1 << 6
	setAtimeNow = 1 << 7
	setMtimeNow = 1 << 8
)

// requestHeader is struct fuse_in_header without the caller's ids, which decide
// nothing here.
type requestHeader struct {
	size   uint32 // of the whole request
	op     opcode
	unique uint64
	node   uint64
	// Who asks, by the guest's word.
	uid, pid uint32
}

func parseRequestHeader(b *[requestHeaderSize]byte) requestHeader {
	return requestHeader{
		size:   le.Uint32(b[0:]),
		op:     opcode(le.Uint32(b[4:])),
		unique: le.Uint64(b[8:]),
		node:   le.Uint64(b[16:]),
		uid:    le.Uint32(b[24:]),
		pid:    le.Uint32(b[32:]),
	}
}

func replyHeader(unique uint64, errno unix.Errno, payload int) []byte {
	b := make([]byte, replyHeaderSize)
	le.PutUint32(b[0:], uint32(replyHeaderSize+payload))
	le.PutUint32(b[4:], uint32(-int32(errno)))
	le.PutUint64(b[8:], unique)
	return b
}

// decoder takes a request's arguments apart. Running out of bytes is noted once and
// reads as zero from then on.
type decoder struct {
	b     []byte
	short bool
}

func (d *decoder) take(n int) []byte {
	if n > len(d.b) {
		d.b, d.short = nil, true
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) u32() uint32 {
	if p := d.take(4); p != nil {
		return le.Uint32(p)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.take(8); p != nil {
		return le.Uint64(p)
	}
	return 0
}

// text is a string that ends with NUL.
func (d *decoder) text() string {
	i := bytes.IndexByte(d.b, 0)
	if i < 0 {
		d.b, d.short = nil, true
		return ""
	}
	return string(d.take(i + 1)[:i])
}

// name is the name of a directory entry.
func (d *decoder) name() (string, error) {
	switch name := d.text(); {
	case d.short, name == "", name == ".", name == "..":
		return "", unix.EINVAL
	case len(name) > unix.NAME_MAX:
		return "", unix.ENAMETOOLONG
	case bytes.IndexByte([]byte(name), '/') >= 0:
		return "", unix.EINVAL
	default:
		return name, nil
	}
}

// end reports whether the arguments were all there. Newer kernels may send more.
func (d *decoder) end() error {
	if d.short {
		return unix.EINVAL
	}
	return nil
}

// encoder puts a reply together.
type encoder struct{ b []byte }

func (e *encoder) u16(v uint16) { e.b = le.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = le.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = le.AppendUint64(e.b, v) }
func (e *encoder) zero(n int)   { e.b = append(e.b, make([]byte, n)...) }

// attr is struct fuse_attr.
func (e *encoder) attr(st *unix.Stat_t) {
	e.u64(st.Ino)
	e.u64(uint64(st.Size))
	e.u64(uint64(st.Blocks))
	e.u64(uint64(st.Atim.Sec))
	e.u64(uint64(st.Mtim.Sec))
	e.u64(uint64(st.Ctim.Sec))
	e.u32(uint32(st.Atim.Nsec))
	e.u32(uint32(st.Mtim.Nsec))
	e.u32(uint32(st.Ctim.Nsec))
	e.u32(st.Mode)
	e.u32(uint32(st.Nlink))
	e.u32(st.Uid)
	e.u32(st.Gid)
	e.u32(encodeDevice(uint64(st.Rdev)))
	e.u32(uint32(st.Blksize))
	e.u32(0) // flags
}

// encodeDevice is the kernel's new_encode_dev (include/linux/kdev_t.h).
func encodeDevice(dev uint64) uint32 {
	major, minor := unix.Major(dev), unix.Minor(dev)
	return minor&0xff | major<<8 | minor&^0xff<<12
}

// dirent is struct fuse_dirent with its name, padded to 8 bytes.
func (e *encoder) dirent(d hostDirent, ino uint64) {
	e.u64(ino)
	e.u64(d.next)
	e.u32(uint32(len(d.name)))
	e.u32(uint32(d.kind))
	e.b = append(e.b, d.name...)
	e.zero(-len(d.name) & 7)
}

func direntLength(name []byte) int { return direntSize + (len(name)+7)&^7 }
