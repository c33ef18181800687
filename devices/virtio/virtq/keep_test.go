package virtq

import "testing"

// TestKeep holds what a queue keeps of long chains against its size.
func TestKeep(t *testing.T) {
	const size = 16
	q := &Queue{cfg: Config{Size: size}, inFlight: make([]bool, size)}
	var requests []*request
	for range size {
		r := newRequest(new(Gate))
		r.bufs = make([][]byte, 0, size/2)
		requests = append(requests, r)
	}
	for range 3 {
		for _, r := range requests {
			q.keep(r)
		}
		room := 0
		for head := range requests {
			r, err := q.take(uint16(head))
			if err != nil {
				t.Fatal(err)
			}
			room += r.kept()
			requests[head] = r
		}
		if room != size || q.kept != 0 {
			t.Errorf("kept room for %d buffers, want %d; %d are left", room, size, q.kept)
		}
		clear(q.inFlight)
	}
}
