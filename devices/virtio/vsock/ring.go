package vsock

// ring is a byte queue of bounded size. It takes memory as it fills, up to its
// limit, and gives it back when it is empty: an idle connection costs next to none.
type ring struct {
	buf   []byte
	start int // of the oldest byte
	n     int // bytes held
	limit int
}

// ringStep is the least that a ring allocates.
const ringStep = 4 << 10

func (r *ring) free() int { return r.limit - r.n }

// write takes as much of p as there is room for.
func (r *ring) write(p []byte) int {
	p = p[:min(len(p), r.free())]
	r.reserve(r.n + len(p))
	for rest := p; len(rest) > 0; {
		end := (r.start + r.n) % len(r.buf)
		m := copy(r.buf[end:], rest)
		r.n += m
		rest = rest[m:]
	}
	return len(p)
}

// read moves up to len(p) of the oldest bytes to p.
func (r *ring) read(p []byte) int {
	total := 0
	for total < len(p) && r.n > 0 {
		m := copy(p[total:], r.buf[r.start:min(r.start+r.n, len(r.buf))])
		r.start = (r.start + m) % len(r.buf)
		r.n -= m
		total += m
	}
	if r.n == 0 && len(r.buf) > ringStep {
		r.drop()
	}
	return total
}

// drop forgets what the ring holds.
func (r *ring) drop() { r.buf, r.start, r.n = nil, 0, 0 }

func (r *ring) reserve(n int) {
	if n <= len(r.buf) {
		return
	}
	size := max(ringStep, len(r.buf))
	for size < n {
		size *= 2
	}
	grown := make([]byte, min(size, r.limit))
	held := copy(grown, r.buf[r.start:min(r.start+r.n, len(r.buf))])
	copy(grown[held:r.n], r.buf)
	r.buf, r.start = grown, 0
}
