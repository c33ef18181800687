package virtq

import (
	"errors"
	"io"
)

// ErrShort says that a chain holds, or has room for, fewer bytes than asked.
var ErrShort = errors.New("virtq: chain too short")

// A Chain is one request of the driver: bytes for the device to read, then room
// for its answer. Its addresses have been checked; its bytes are guest memory,
// which the guest may change while they are being read. Once it has been given
// back, it is the queue's again, with its Reader and Writer.
type Chain struct {
	Reader *Reader
	Writer *Writer

	head  uint16
	queue *Queue // nil once given back
	whole *request
}

// Do runs f, which changes guest memory or a file by the chain's order in a way
// of its own, and keeps the device from being suspended until it returns. f must
// use neither Writer nor Reader.
func (c *Chain) Do(f func() error) error {
	gate := c.Writer.gate
	if err := gate.enter(); err != nil {
		return err
	}
	defer gate.leave()
	return f()
}

// request is a chain with all its parts. A queue uses those that were given back
// again, so that a busy one allocates nothing.
type request struct {
	Chain
	reader Reader
	writer Writer
	bufs   [][]byte  // room for those of a chain
	first  [4][]byte // bufs of a short chain
}

func newRequest(g *Gate) *request {
	r := new(request)
	r.bufs = r.first[:]
	r.reader.gate, r.writer.gate = g, g
	r.Chain = Chain{Reader: &r.reader, Writer: &r.writer, whole: r}
	return r
}

// kept is how many buffers r has room for that is not its own.
func (r *request) kept() int {
	if n := cap(r.bufs); n > len(r.first) {
		return n
	}
	return 0
}

// buffers are pieces of guest memory, read or written one after the other.
type buffers struct {
	bufs [][]byte
	left int // bytes
	gate *Gate
}

// next is the unused part of the first piece that has any, at most n bytes.
func (b *buffers) next(n int) []byte {
	for len(b.bufs) > 0 && len(b.bufs[0]) == 0 {
		b.bufs = b.bufs[1:]
	}
	if len(b.bufs) == 0 || n <= 0 {
		return nil
	}
	return b.bufs[0][:min(n, len(b.bufs[0]))]
}

// advance uses up n bytes, of any number of pieces.
func (b *buffers) advance(n int) {
	b.left -= n
	bufs := b.bufs
	for n > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n > 0 {
		bufs[0] = bufs[0][n:]
	}
	b.bufs = bufs
}

// each gives f the next n bytes, piece by piece, until f fails, and returns how
// many bytes f took.
func (b *buffers) each(n int, f func(p []byte) (int, error)) (done int, err error) {
	for done < n {
		p := b.next(n - done)
		if p == nil {
			return done, ErrShort
		}
		m, err := f(p)
		m = min(max(m, 0), len(p))
		b.advance(m)
		done += m
		if err != nil {
			return done, err
		}
		if m < len(p) {
			return done, io.ErrShortWrite
		}
	}
	return done, nil
}

// Reader reads what the driver sent.
type Reader struct{ buffers }

// Len is how many bytes have not been read.
func (r *Reader) Len() int { return r.left }

// Pieces are the bytes that have not been read, piece by piece, some perhaps empty:
// for a system call that takes several. They are guest memory and good until the
// chain is given back.
func (r *Reader) Pieces() [][]byte { return r.bufs }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n := 0
	for n < len(p) && r.left > 0 {
		m := copy(p[n:], r.next(r.left))
		r.advance(m)
		n += m
	}
	return n, nil
}

// Skip passes over n bytes, or fails with ErrShort over all that are left.
func (r *Reader) Skip(n int) error {
	_, err := r.each(n, func(b []byte) (int, error) { return len(b), nil })
	return err
}

// WriteTo implements io.WriterTo: it writes all that is left to w, straight
// from guest memory.
func (r *Reader) WriteTo(w io.Writer) (int64, error) {
	n, err := r.each(r.left, w.Write)
	return int64(n), err
}

// CopyAt writes the next n bytes to w at off, straight from guest memory, with
// one call for many buffers if w is a [VectorWriterAt].
func (r *Reader) CopyAt(w io.WriterAt, off int64, n int) (int, error) {
	if err := r.gate.enter(); err != nil {
		return 0, err
	}
	defer r.gate.leave()
	return r.writeTo(w, off, n)
}

// Writer fills the room that the driver left for the answer.
type Writer struct {
	buffers
	written int
}

// Len is how many bytes there is still room for.
func (w *Writer) Len() int { return w.left }

// Written is how many bytes have been written.
func (w *Writer) Written() int { return w.written }

// Write implements io.Writer; ErrShort if p does not fit, after what does.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.gate.enter(); err != nil {
		return 0, err
	}
	defer w.gate.leave()
	return w.write(p)
}

func (w *Writer) write(p []byte) (int, error) {
	n := 0
	for n < len(p) && w.left > 0 {
		m := copy(w.next(w.left), p[n:])
		w.advance(m)
		n += m
	}
	w.written += n
	if n < len(p) {
		return n, ErrShort
	}
	return n, nil
}

// CopyAt reads n bytes at off of r, straight into guest memory, with one call for
// many buffers if r is a [VectorReaderAt]. An r that ends early fails with
// io.ErrUnexpectedEOF.
func (w *Writer) CopyAt(r io.ReaderAt, off int64, n int) (int, error) {
	if err := w.gate.enter(); err != nil {
		return 0, err
	}
	defer w.gate.leave()
	n, err := w.readFrom(r, off, n)
	w.written += n
	return n, err
}

// Fill reads once from r, into the next piece of the room, and returns how much
// came: for a source that gives what it has, as a socket does. Without room it
// returns 0 and does not read. Whoever pauses the machine waits for the read, so
// r must not wait for anybody.
func (w *Writer) Fill(r io.Reader) (int, error) {
	p := w.next(w.left)
	if p == nil {
		return 0, nil
	}
	if err := w.gate.enter(); err != nil {
		return 0, err
	}
	defer w.gate.leave()
	n, err := r.Read(p)
	n = min(max(n, 0), len(p))
	w.advance(n)
	w.written += n
	return n, err
}

// Pieces uses up the room and gives it to f as it is, piece by piece: for a
// driver that means the memory itself, not what could be written there. It ends
// at f's first error.
func (w *Writer) Pieces(f func(p []byte) error) error {
	if err := w.gate.enter(); err != nil {
		return err
	}
	defer w.gate.leave()
	_, err := w.each(w.left, func(b []byte) (int, error) { return len(b), f(b) })
	return err
}

// SplitTail takes the last n bytes of the room away from w and returns them as
// a Writer of their own: for a status that stands behind data. If there are
// fewer it returns nil and takes nothing.
func (w *Writer) SplitTail(n int) *Writer {
	if n < 0 || n > w.left {
		return nil
	}
	tail := &Writer{buffers: buffers{left: n, gate: w.gate}}
	w.left -= n
	keep := w.left
	for i, b := range w.bufs {
		if keep >= len(b) {
			keep -= len(b)
			continue
		}
		if keep == 0 { // as drivers have it
			w.bufs, tail.bufs = w.bufs[:i:i], w.bufs[i:]
		} else {
			tail.bufs = append([][]byte{b[keep:]}, w.bufs[i+1:]...)
			w.bufs = append(w.bufs[:i:i], b[:keep])
		}
		break
	}
	return tail
}
