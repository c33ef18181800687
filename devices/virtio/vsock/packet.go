package vsock

import "encoding/binary"

// HeaderSize is the size in bytes of struct virtio_vsock_hdr (virtio 1.2 §5.10.6).
const HeaderSize = 44

// HostCID is the address by which a guest reaches its host (§5.10.4).
const HostCID = 2

// typeStream is the only socket type that the device speaks (§5.10.6.2).
const typeStream = 1

// Op is what a packet is for, §5.10.6.
type Op uint16

// The operations of §5.10.6.
const (
	OpInvalid       Op = 0 // also what stands for a packet whose length is wrong
	OpRequest       Op = 1
	OpResponse      Op = 2
	OpReset         Op = 3
	OpShutdown      Op = 4
	OpData          Op = 5 // VIRTIO_VSOCK_OP_RW
	OpCreditUpdate  Op = 6
	OpCreditRequest Op = 7
)

// Bits of header.Flags in a shutdown (§5.10.6.5): what its sender will no longer do.
const (
	ShutdownReceive uint32 = 1
	ShutdownSend    uint32 = 2
	ShutdownBoth           = ShutdownReceive | ShutdownSend
)

// header is struct virtio_vsock_hdr, which starts every packet both ways.
type header struct {
	SrcCID, DstCID   uint64
	SrcPort, DstPort uint32
	Len              uint32 // bytes of payload after the header
	Type             uint16
	Op               Op
	Flags            uint32
	BufAlloc         uint32 // size of the sender's receive buffer
	FwdCnt           uint32 // bytes that left that buffer so far, modulo 2^32
}

func parseHeader(b *[HeaderSize]byte) header {
	le := binary.LittleEndian
	return header{
		SrcCID:   le.Uint64(b[0:]),
		DstCID:   le.Uint64(b[8:]),
		SrcPort:  le.Uint32(b[16:]),
		DstPort:  le.Uint32(b[20:]),
		Len:      le.Uint32(b[24:]),
		Type:     le.Uint16(b[28:]),
		Op:       Op(le.Uint16(b[30:])),
		Flags:    le.Uint32(b[32:]),
		BufAlloc: le.Uint32(b[36:]),
		FwdCnt:   le.Uint32(b[40:]),
	}
}

func (h header) encode(b *[HeaderSize]byte) {
	le := binary.LittleEndian
	le.PutUint64(b[0:], h.SrcCID)
	le.PutUint64(b[8:], h.DstCID)
	le.PutUint32(b[16:], h.SrcPort)
	le.PutUint32(b[20:], h.DstPort)
	le.PutUint32(b[24:], h.Len)
	le.PutUint16(b[28:], h.Type)
	le.PutUint16(b[30:], uint16(h.Op))
	le.PutUint32(b[32:], h.Flags)
	le.PutUint32(b[36:], h.BufAlloc)
	le.PutUint32(b[40:], h.FwdCnt)
}

// refusal is the reset that answers h: the same connection seen from the other end.
func (h header) refusal() header {
	return header{
		SrcCID: h.DstCID, DstCID: h.SrcCID,
		SrcPort: h.DstPort, DstPort: h.SrcPort,
		Type: h.Type, Op: OpReset,
	}
}
