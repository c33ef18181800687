package vsock

import (
	"sync"
	"sync/atomic"
)

// fifo is a byte queue of bounded size. It is made of chunks, which all connections
// take from one place and give back as they are read: an idle connection has none, and
// a busy one allocates nothing.
type fifo struct {
	parts []part // oldest first, none of them empty
	n     int    // bytes in them
	taken int    // bytes that are out and count all the same
	limit int
}

// A part is what of a chunk is in use. The zero part is nothing.
type part struct {
	chunk      *chunk
	start, end int
}

// chunkSize is that of the largest packet that Linux sends, and long enough for a call of
// the kernel's to be worth while.
const chunkSize = 64 << 10

// A chunk is memory that several may have: a queue, and whoever has bytes of it.
type chunk struct {
	users atomic.Int32
	bytes [chunkSize]byte
}

var chunks = sync.Pool{New: func() any { return new(chunk) }}

func newChunk() *chunk {
	c := chunks.Get().(*chunk)
	c.users.Store(1)
	return c
}

// give gives the chunk back. Whoever does may not look at its bytes any more.
func (c *chunk) give() {
	if c.users.Add(-1) == 0 {
		chunks.Put(c)
	}
}

func (p *part) bytes() []byte {
	if p.chunk == nil {
		return nil
	}
	return p.chunk.bytes[p.start:p.end]
}

func (p *part) len() int { return p.end - p.start }

func (p *part) give() {
	if p.chunk != nil {
		p.chunk.give()
	}
}

func (f *fifo) free() int { return f.limit - f.n - f.taken }

// write takes as much of p as there is room for.
func (f *fifo) write(p []byte) int {
	p = p[:min(len(p), f.free())]
	for rest := p; len(rest) > 0; {
		if f.tail() == 0 {
			f.parts = append(f.parts, part{chunk: newChunk()})
		}
		rest = rest[f.append(rest):]
	}
	f.n += len(p)
	return len(p)
}

// tail is the room behind the last part.
func (f *fifo) tail() int {
	if len(f.parts) == 0 {
		return 0
	}
	return chunkSize - f.parts[len(f.parts)-1].end
}

// append copies what of p there is room for behind the last part.
func (f *fifo) append(p []byte) int {
	last := &f.parts[len(f.parts)-1]
	n := copy(last.chunk.bytes[last.end:], p)
	last.end += n
	return n
}

// add takes p in, the start of a chunk, for which there is room. It is not copied unless it
// is short: chunks are half full on average at the least.
func (f *fifo) add(p part) {
	n := p.len()
	switch {
	case n == 0:
		p.give()
	case n < chunkSize/2 && n <= f.tail():
		f.append(p.bytes())
		p.give()
	default:
		f.parts = append(f.parts, p)
	}
	f.n += n
}

// read moves up to len(p) of the oldest bytes to p.
func (f *fifo) read(p []byte) int {
	total := 0
	for total < len(p) && len(f.parts) > 0 {
		first := &f.parts[0]
		m := copy(p[total:], first.bytes())
		total += m
		f.pass(m)
	}
	f.n -= total
	return total
}

// pass moves on over the oldest n bytes, of one part.
func (f *fifo) pass(n int) {
	first := &f.parts[0]
	if first.start += n; first.start == first.end {
		first.give()
		f.shift()
	}
}

// lend takes up to n of the oldest bytes out, of one chunk; there are some. The caller
// gives them back.
func (f *fifo) lend(n int) part {
	p := f.parts[0]
	p.end = min(p.end, p.start+n)
	p.chunk.users.Add(1)
	f.pass(p.len())
	f.n -= p.len()
	return p
}

// take takes the oldest bytes out, one chunk's; there are some. They count until they
// are given back. Whoever has them need not keep others from the queue meanwhile.
func (f *fifo) take() part {
	p := f.parts[0]
	f.shift()
	f.n -= p.len()
	f.taken += p.len()
	return p
}

// giveBack takes back what take gave.
func (f *fifo) giveBack(p part) {
	f.taken -= p.len()
	p.give()
}

// shift forgets the first part.
func (f *fifo) shift() {
	n := copy(f.parts, f.parts[1:])
	f.parts[n] = part{}
	f.parts = f.parts[:n]
}

// drop forgets what is in the queue.
func (f *fifo) drop() {
	for i := range f.parts {
		f.parts[i].give()
	}
	f.parts, f.n = nil, 0
}
