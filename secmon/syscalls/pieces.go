package syscalls

// A Piece is one part of what a vector of buffers holds.
type Piece struct {
	Size uint64 // in the guest
	Data string // what was read of it, from its start
}

// AppendPiece adds a piece to what Data holds of a parameter of kind IOV: 8 bytes
// of its size, 4 of how much was read, and that.
func AppendPiece(p []byte, size uint64, data []byte) []byte {
	p = le.AppendUint64(p, size)
	p = le.AppendUint32(p, uint32(len(data)))
	return append(p, data...)
}

// Pieces reads what AppendPiece wrote.
func Pieces(data string) []Piece {
	const head = 12
	var all []Piece
	for len(data) >= head {
		h := []byte(data[:head])
		size, n := le.Uint64(h), le.Uint32(h[8:])
		data = data[head:]
		if uint64(n) > uint64(len(data)) {
			break
		}
		all = append(all, Piece{size, data[:n]})
		data = data[n:]
	}
	return all
}

// AppendMessage starts what Data holds of a parameter of kind MsgHdr: the
// address; its pieces follow.
func AppendMessage(p []byte, address []byte) []byte {
	return append(le.AppendUint32(p, uint32(len(address))), address...)
}

// Message reads what AppendMessage and AppendPiece wrote.
func Message(data string) (address string, pieces []Piece) {
	if len(data) < 4 {
		return "", nil
	}
	n := le.Uint32([]byte(data[:4]))
	if data = data[4:]; uint64(n) > uint64(len(data)) {
		return "", nil
	}
	return data[:n], Pieces(data[n:])
}
