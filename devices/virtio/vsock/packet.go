package vsock

import "encoding/binary"

// headerSize is the size in bytes of struct virtio_vsock_hdr (virtio 1.2 §5.10.6).
const headerSize = 44

// hostCID is the address by which a guest reaches this device's host (§5.10.4).
const hostCID = 2

// typeStream is the only socket type that the device speaks (§5.10.6.2).
const typeStream = 1

// op is an operation of §5.10.6.
type op uint16

const (
	opInvalid       op = 0
	opRequest       op = 1
	opResponse      op = 2
	opReset         op = 3
	opShutdown      op = 4
	opData          op = 5 // VIRTIO_VSOCK_OP_RW
	opCreditUpdate  op = 6
	opCreditRequest op = 7
)

// Bits of header.Flags in a shutdown (§5.10.6.5): what its sender will no longer do.
const (
	shutdownReceive uint32 = 1
	shutdownSend    uint32 = 2
	shutdownBoth           = shutdownReceive | shutdownSend
)

// header is struct virtio_vsock_hdr, which starts every packet both ways.
type header struct {
	SrcCID, DstCID   uint64
	SrcPort, DstPort uint32
	Len              uint32 // bytes of payload after the header
	Type             uint16
	Op               op
	Flags            uint32
	BufAlloc         uint32 // size of the sender's receive buffer
	FwdCnt           uint32 // bytes that left that buffer so far, modulo 2^32
}

func parseHeader(b *[headerSize]byte) header {
	le := binary.LittleEndian
	return header{
		SrcCID:   le.Uint64(b[0:]),
		DstCID:   le.Uint64(b[8:]),
		SrcPort:  le.Uint32(b[16:]),
		DstPort:  le.Uint32(b[20:]),
		Len:      le.Uint32(b[24:]),
		Type:     le.Uint16(b[28:]),
		Op:       op(le.Uint16(b[30:])),
		Flags:    le.Uint32(b[32:]),
		BufAlloc: le.Uint32(b[36:]),
		FwdCnt:   le.Uint32(b[40:]),
	}
}

func (h header) encode(b *[headerSize]byte) {
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
		Type: h.Type, Op: opReset,
	}
}
