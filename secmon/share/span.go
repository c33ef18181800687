package share

import "slices"

// span is a range of a file that one VM has written last.
type span struct {
	from, to int64
	vm       int32
	at       int64 // when, in nanoseconds since 1970
	pid, uid uint32
	told     []int32 // the VMs that have read it, in their order; it is not changed
}

// like reports whether two ranges side by side can be one.
func (s span) like(o span) bool {
	return s.to == o.from && s.vm == o.vm && s.pid == o.pid && s.uid == o.uid && slices.Equal(s.told, o.told)
}

// put makes a range what was written last there.
func (f *file) put(s span) { f.replace(s.from, s.to, []span{s}) }

// cut forgets what is beyond a length.
func (f *file) cut(size int64) {
	for i, s := range f.ranges {
		if s.to > size {
			if s.from < size {
				f.ranges[i].to = size
				i++
			}
			f.ranges = slices.Delete(f.ranges, i, len(f.ranges))
			return
		}
	}
}

// replace puts ranges in place of all there is from one place to another.
func (f *file) replace(from, to int64, by []span) {
	first := f.after(from)
	last := first
	var put []span
	for ; last < len(f.ranges) && f.ranges[last].from < to; last++ {
		if s := f.ranges[last]; s.from < from {
			s.to = from
			put = append(put, s)
		}
	}
	put = append(put, by...)
	if last > first {
		if s := f.ranges[last-1]; s.to > to {
			s.from = to
			put = append(put, s)
		}
	}
	f.ranges = slices.Replace(f.ranges, first, last, put...)
	f.join(max(first-1, 0), min(first+len(put)+1, len(f.ranges)))
}

// after is the first range that ends behind a place.
func (f *file) after(at int64) int {
	i, _ := slices.BinarySearchFunc(f.ranges, at, func(s span, at int64) int {
		if s.to <= at {
			return -1
		}
		return 1
	})
	return i
}

// join makes one of neighbours that are alike, among some of the ranges.
func (f *file) join(first, last int) {
	out := f.ranges[:first]
	for i := first; i < len(f.ranges); i++ {
		s := f.ranges[i]
		if n := len(out); n > 0 && i < last && out[n-1].like(s) {
			out[n-1].to, out[n-1].at = s.to, max(out[n-1].at, s.at)
			continue
		}
		out = append(out, s)
	}
	clear(f.ranges[len(out):])
	f.ranges = out
}

// dropOldest forgets the range that was written first.
func (f *file) dropOldest() {
	oldest := 0
	for i := range f.ranges {
		if f.ranges[i].at < f.ranges[oldest].at {
			oldest = i
		}
	}
	f.ranges = slices.Delete(f.ranges, oldest, oldest+1)
}

// hear gives what others have written from one place to another and this VM has not
// read yet, and notes that it does.
func (f *file) hear(vm int32, from, to int64) (heard []span) {
	for i := f.after(from); i < len(f.ranges) && f.ranges[i].from < to; i++ {
		s := f.ranges[i]
		if _, told := slices.BinarySearch(s.told, vm); s.vm != vm && !told {
			s.from, s.to = max(s.from, from), min(s.to, to)
			heard = append(heard, s)
		}
	}
	for _, s := range heard {
		at, _ := slices.BinarySearch(s.told, vm)
		s.told = slices.Insert(slices.Clone(s.told), at, vm)
		f.replace(s.from, s.to, []span{s})
	}
	return heard
}
