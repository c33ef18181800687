package virtq

import (
	"errors"
	"io"
)

// A VectorReaderAt is an io.ReaderAt that can fill several buffers by one call.
type VectorReaderAt interface {
	// ReadVectorAt fills bufs one after the other with what is at off, and
	// returns how many bytes came. Unlike ReadAt it may stop early without an
	// error, but not at 0 bytes.
	ReadVectorAt(bufs [][]byte, off int64) (int, error)
}

// A VectorWriterAt is an io.WriterAt that can write several buffers by one call.
type VectorWriterAt interface {
	// WriteVectorAt is to WriteAt what ReadVectorAt is to ReadAt.
	WriteVectorAt(bufs [][]byte, off int64) (int, error)
}

// maxVector is how many buffers one call gets: IOV_MAX.
const maxVector = 1024

// upTo is the first n bytes, or what of them is in maxVector pieces.
func (b *buffers) upTo(n int) [][]byte {
	b.next(1) // drops what is used up
	for i, p := range b.bufs {
		if i == maxVector || n == 0 {
			return b.bufs[:i]
		}
		if len(p) > n {
			return append(b.bufs[:i:i], p[:n])
		}
		n -= len(p)
	}
	return b.bufs
}

// vectors gives f the next n bytes, as many pieces at a time as it may have, until
// f fails, and returns how many bytes f took.
func (b *buffers) vectors(n int, f func(bufs [][]byte) (int, error)) (done int, err error) {
	for done < n {
		bufs := b.upTo(n - done)
		if len(bufs) == 0 {
			return done, ErrShort
		}
		m, err := f(bufs)
		m = min(max(m, 0), n-done)
		b.advance(m)
		done += m
		if err == nil && m == 0 {
			err = io.ErrNoProgress
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (b *buffers) writeTo(w io.WriterAt, off int64, n int) (int, error) {
	if v, ok := w.(VectorWriterAt); ok {
		return b.vectors(n, func(bufs [][]byte) (int, error) {
			n, err := v.WriteVectorAt(bufs, off)
			off += int64(n)
			return n, err
		})
	}
	return b.each(n, func(p []byte) (int, error) {
		n, err := w.WriteAt(p, off)
		off += int64(n)
		return n, err
	})
}

func (b *buffers) readFrom(r io.ReaderAt, off int64, n int) (done int, err error) {
	if v, ok := r.(VectorReaderAt); ok {
		done, err = b.vectors(n, func(bufs [][]byte) (int, error) {
			n, err := v.ReadVectorAt(bufs, off)
			off += int64(n)
			return n, err
		})
	} else {
		done, err = b.each(n, func(p []byte) (int, error) {
			n, err := r.ReadAt(p, off)
			off += int64(n)
			if n == len(p) {
				err = nil // io.ReaderAt may say EOF with the last byte
			}
			return n, err
		})
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return done, err
}
