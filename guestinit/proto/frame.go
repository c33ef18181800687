package proto

import (
	"encoding/binary"
	"fmt"
	"io"
)

// MaxFrame is the largest payload of one frame in bytes. It leaves room for
// a command with long arguments; bulk data travels on streams.
const MaxFrame = 1 << 20

const frameHeader = 4

// A FrameSizeError is a frame whose length is zero or beyond MaxFrame.
type FrameSizeError struct{ Size uint64 }

func (e *FrameSizeError) Error() string {
	return fmt.Sprintf("frame of %d bytes, want 1 to %d", e.Size, MaxFrame)
}

// ReadFrame reads one frame: a big-endian length of four bytes, then the
// payload. It returns io.EOF only between frames, io.ErrUnexpectedEOF inside
// one, and a *FrameSizeError before anything is allocated for it.
func ReadFrame(r io.Reader) ([]byte, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > MaxFrame {
		return nil, &FrameSizeError{uint64(n)}
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return p, nil
}

// WriteFrame writes p as one frame with a single Write, so that a writer that
// is safe for concurrent use carries whole frames.
func WriteFrame(w io.Writer, p []byte) error {
	if len(p) == 0 || len(p) > MaxFrame {
		return &FrameSizeError{uint64(len(p))}
	}
	b := make([]byte, 0, frameHeader+len(p))
	b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
	_, err := w.Write(append(b, p...))
	return err
}
