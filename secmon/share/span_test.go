package share

import (
	"math/rand/v2"
	"testing"
)

// TestRangesAgainstBytes holds the ranges of a file against a model that keeps, for each byte,
// who wrote it last and who has read it since.
func TestRangesAgainstBytes(t *testing.T) {
	const size, vms = 64, 4
	random := rand.New(rand.NewPCG(1, 2))
	type state struct {
		written bool
		vm      int32
		read    [vms]bool
	}
	var model [size]state
	f := new(file)
	for n := range 50_000 {
		from := random.Int64N(size)
		to := from + 1 + random.Int64N(size-from)
		vm := random.Int32N(vms)
		switch random.IntN(10) {
		case 0:
			f.cut(from)
			for i := from; i < size; i++ {
				model[i] = state{}
			}
		case 1, 2, 3:
			f.put(span{from: from, to: to, vm: vm, at: int64(n)})
			for i := from; i < to; i++ {
				model[i] = state{written: true, vm: vm}
			}
		default:
			var heard [size]bool
			for _, s := range f.hear(vm, from, to) {
				for i := s.from; i < s.to; i++ {
					if heard[i] || model[i].vm != s.vm {
						t.Fatalf("step %d: byte %d is heard of %d, twice %v, want %d", n, i, s.vm, heard[i], model[i].vm)
					}
					heard[i] = true
				}
			}
			for i := range int64(size) {
				m := &model[i]
				want := i >= from && i < to && m.written && m.vm != vm && !m.read[vm]
				if heard[i] != want {
					t.Fatalf("step %d: byte %d is heard %v, want %v", n, i, heard[i], want)
				}
				m.read[vm] = m.read[vm] || want
			}
		}
		last := int64(0)
		for i, s := range f.ranges {
			if s.from < last || s.from >= s.to || i > 0 && f.ranges[i-1].like(s) {
				t.Fatalf("step %d: ranges %+v", n, f.ranges)
			}
			last = s.to
		}
	}
}
