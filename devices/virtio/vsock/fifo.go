package vsock

import "sync"

// fifo is a byte queue of bounded size. It is made of chunks, which all connections
// take from one place and give back as they are read: an idle connection has none, and
// a busy one allocates nothing.
type fifo struct {
	parts []part // oldest first, none of them empty
	n     int    // bytes in them
	taken int    // bytes that are out and count all the same
	limit int
}

// A part is what of a chunk is in use.
type part struct {
	chunk      *chunk
	start, end int
}

// A chunk is long enough for a call of the kernel's to be worth while.
type chunk [32 << 10]byte

var chunks = sync.Pool{New: func() any { return new(chunk) }}

func (p *part) bytes() []byte { return p.chunk[p.start:p.end] }

// give gives the chunk back. Nobody may look at its bytes any more.
func (p *part) give() { chunks.Put(p.chunk) }

func (f *fifo) free() int { return f.limit - f.n - f.taken }

// write takes as much of p as there is room for.
func (f *fifo) write(p []byte) int {
	p = p[:min(len(p), f.free())]
	for rest := p; len(rest) > 0; {
		if len(f.parts) == 0 || f.parts[len(f.parts)-1].end == len(chunk{}) {
			f.parts = append(f.parts, part{chunk: chunks.Get().(*chunk)})
		}
		last := &f.parts[len(f.parts)-1]
		m := copy(last.chunk[last.end:], rest)
		last.end += m
		rest = rest[m:]
	}
	f.n += len(p)
	return len(p)
}

// read moves up to len(p) of the oldest bytes to p.
func (f *fifo) read(p []byte) int {
	total := 0
	for total < len(p) && len(f.parts) > 0 {
		first := &f.parts[0]
		m := copy(p[total:], first.bytes())
		first.start += m
		total += m
		if first.start == first.end {
			first.give()
			f.shift()
		}
	}
	f.n -= total
	return total
}

// take takes the oldest bytes out, one chunk's; there are some. They count until they
// are given back. Whoever has them need not keep others from the queue meanwhile.
func (f *fifo) take() part {
	p := f.parts[0]
	f.shift()
	f.n -= len(p.bytes())
	f.taken += len(p.bytes())
	return p
}

// giveBack takes back what take gave.
func (f *fifo) giveBack(p part) {
	f.taken -= len(p.bytes())
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
