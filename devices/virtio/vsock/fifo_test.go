package vsock

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestFIFO compares the queue with a plain slice, whatever is done to it.
func TestFIFO(t *testing.T) {
	const limit = bufferSize
	rnd := rand.New(rand.NewPCG(1, 2))
	f := fifo{limit: limit}
	var want []byte
	var out, lent part
	var wantLent []byte
	next := byte(0)
	some := func(p []byte) []byte {
		for i := range p {
			p[i] = next
			next++
		}
		return p
	}
	for step := range 20_000 {
		switch n := rnd.IntN(2 * chunkSize); rnd.IntN(6) {
		case 0, 1:
			p := some(make([]byte, n))
			wrote := f.write(p)
			if room := limit - len(want) - taken(out); wrote != min(n, room) {
				t.Fatalf("step %d: %d of %d bytes were taken where there was room for %d", step, wrote, n, room)
			}
			next -= byte(n - wrote)
			want = append(want, p[:wrote]...)
		case 2:
			p := make([]byte, n)
			p = p[:f.read(p)]
			if len(p) != min(n, len(want)) || !bytes.Equal(p, want[:len(p)]) {
				t.Fatalf("step %d: read %d bytes of %d, with %d there", step, len(p), n, len(want))
			}
			want = want[len(p):]
		case 3:
			if out.chunk != nil {
				f.giveBack(out)
				out = part{}
			}
			if len(want) > 0 {
				out = f.take()
				if p := out.bytes(); len(p) == 0 || !bytes.Equal(p, want[:len(p)]) {
					t.Fatalf("step %d: %d bytes taken are not those that come next", step, len(p))
				}
				want = want[len(out.bytes()):]
			}
		case 4:
			p := part{chunk: newChunk(), end: min(n, chunkSize, f.free())}
			want = append(want, some(p.bytes())...)
			f.add(p)
		case 5:
			// What was lent is as it was, whatever the queue and others did since.
			if p := lent.bytes(); !bytes.Equal(p, wantLent) {
				t.Fatalf("step %d: %d lent bytes have changed", step, len(p))
			}
			lent.give()
			lent, wantLent = part{}, nil
			if len(want) > 0 && n > 0 {
				lent = f.lend(n)
				wantLent = bytes.Clone(lent.bytes())
				if len(wantLent) == 0 || len(wantLent) > n || !bytes.HasPrefix(want, wantLent) {
					t.Fatalf("step %d: %d bytes lent of %d are not those that come next", step, len(wantLent), n)
				}
				want = want[len(wantLent):]
			}
		}
		if f.n != len(want) || len(f.parts) > 2*limit/chunkSize+1 {
			t.Fatalf("step %d: %d bytes in %d chunks, want %d", step, f.n, len(f.parts), len(want))
		}
	}
	f.drop()
	if f.n != 0 || f.free() != limit-taken(out) {
		t.Errorf("%d bytes, room for %d after all were dropped", f.n, f.free())
	}
}

// taken is how many bytes are out.
func taken(p part) int { return p.end - p.start }

// TestNothingIsAllocated sends through a queue that empties again and again.
func TestNothingIsAllocated(t *testing.T) {
	f := fifo{limit: bufferSize}
	p := make([]byte, bufferSize/4)
	if n := testing.AllocsPerRun(100, func() {
		f.write(p)
		f.giveBack(f.take())
		f.add(part{chunk: newChunk(), end: chunkSize})
		lent := f.lend(1000)
		lent.give()
		f.read(p)
	}); n > 1 { // the collector may empty what is shared
		t.Errorf("%v allocations", n)
	}
}
