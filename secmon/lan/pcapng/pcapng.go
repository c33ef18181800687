// Package pcapng writes captured frames in the form that Wireshark reads.
//
// It is the format of the Internet-Draft "PCAP Next Generation (pcapng) Capture File
// Format", with blocks in little-endian order and times in nanoseconds: one section
// header, an interface for each place that frames come from, frames with comments,
// and at the end how many were lost.
package pcapng

import (
	"encoding/binary"
	"io"
)

// Block types.
const (
	sectionHeader   = 0x0a0d0d0a
	interfaceDesc   = 1
	interfaceStats  = 5
	enhancedPacket  = 6
	byteOrder       = 0x1a2b3c4d
	nanosecondPower = 9
)

// Link is what the frames of an interface begin with (the registry of link types of
// tcpdump.org).
type Link uint16

// The links that there are.
const (
	Ethernet Link = 1
	Vsock    Link = 271 // struct af_vsockmon_hdr of the kernel's include/uapi/linux/vsockmon.h
)

// Options of blocks.
const (
	optComment     = 1
	optApplication = 4  // of a section: who wrote it
	optName        = 2  // of an interface, as all below
	optDescription = 3  //
	optResolution  = 9  //
	optFilter      = 11 //
	optDropped     = 5  // of statistics
)

// Writer writes one file. Each block goes out by one Write, so that who reads along
// has whole blocks.
type Writer struct {
	w          io.Writer
	snap       uint32
	filter     string
	interfaces uint32
	buf        []byte
}

// NewWriter begins a file of frames of which at most snap bytes are kept, picked by a
// filter expression.
func NewWriter(w io.Writer, application, filter string, snap int) (*Writer, error) {
	p := &Writer{w: w, snap: uint32(snap), filter: filter}
	p.begin(sectionHeader)
	p.uint32(byteOrder)
	p.uint32(1)          // version 1.0
	p.uint32(0xffffffff) // of a length that is not known
	p.uint32(0xffffffff)
	p.option(optApplication, application)
	return p, p.end()
}

// Interface adds an interface, and gives its number.
func (p *Writer) Interface(link Link, name, description string) (uint32, error) {
	p.begin(interfaceDesc)
	p.uint32(uint32(link)) // its upper half is reserved
	p.uint32(p.snap)
	p.option(optName, name)
	p.option(optDescription, description)
	if p.filter != "" {
		p.option(optFilter, "\x00"+p.filter) // 0: an expression of libpcap
	}
	p.option(optResolution, string([]byte{nanosecondPower}))
	p.interfaces++
	return p.interfaces - 1, p.end()
}

// Frame adds a frame of length bytes, of which data are there, seen at a time in
// nanoseconds since 1970.
func (p *Writer) Frame(from uint32, at int64, data []byte, length int, comment string) error {
	data = data[:min(len(data), int(p.snap))]
	p.begin(enhancedPacket)
	p.uint32(from)
	p.uint32(uint32(uint64(at) >> 32))
	p.uint32(uint32(at))
	p.uint32(uint32(len(data)))
	p.uint32(uint32(length))
	p.buf = append(p.buf, data...)
	p.pad()
	p.option(optComment, comment)
	return p.end()
}

// Lost says that an interface lost frames, in all up to a time.
func (p *Writer) Lost(from uint32, at int64, frames uint64) error {
	p.begin(interfaceStats)
	p.uint32(from)
	p.uint32(uint32(uint64(at) >> 32))
	p.uint32(uint32(at))
	p.option(optDropped, string(binary.LittleEndian.AppendUint64(nil, frames)))
	return p.end()
}

func (p *Writer) uint32(v uint32) { p.buf = binary.LittleEndian.AppendUint32(p.buf, v) }

func (p *Writer) begin(kind uint32) {
	p.buf = p.buf[:0]
	p.uint32(kind)
	p.uint32(0) // the length, when it is known
}

func (p *Writer) pad() {
	for len(p.buf)%4 != 0 {
		p.buf = append(p.buf, 0)
	}
}

// maxOption is how long an option may be, in bytes.
const maxOption = 0xffff

// option adds an option, unless it is empty.
func (p *Writer) option(code uint16, value string) {
	if value == "" {
		return
	}
	value = value[:min(len(value), maxOption)]
	p.buf = binary.LittleEndian.AppendUint16(p.buf, code)
	p.buf = binary.LittleEndian.AppendUint16(p.buf, uint16(len(value)))
	p.buf = append(p.buf, value...)
	p.pad()
}

// end writes the block.
func (p *Writer) end() error {
	p.uint32(0) // end of options; one who has none does not need it, but may have it
	length := uint32(len(p.buf) + 4)
	p.uint32(length)
	binary.LittleEndian.PutUint32(p.buf[4:], length)
	_, err := p.w.Write(p.buf)
	return err
}
