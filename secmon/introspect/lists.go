package introspect

import (
	"bytes"
	"fmt"
	"iter"
)

// text is the string at the start of p.
func text(p []byte) string {
	if end := bytes.IndexByte(p, 0); end >= 0 {
		p = p[:end]
	}
	return string(p)
}

// chain yields node after node until next gives 0, and finds out when it goes
// round in a circle: some node is then met again that a slower walker has
// reached (Brent). limit is how many there are at most.
func (q *question) chain(first uint64, limit int, next func(uint64) uint64) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		mark, steps, power := uint64(0), 0, 1
		for n, at := 0, first; at != 0 && q.err == nil; n++ {
			if at == mark || n == limit {
				q.fail(fmt.Errorf("%w: a list that does not end", ErrWalk))
				return
			}
			if steps++; steps == power {
				mark, steps, power = at, 0, power*2
			}
			// What the node points to is read first: the caller may find that it
			// has been freed meanwhile.
			following := next(at)
			if !yield(at) {
				return
			}
			at = following
		}
	}
}

// list yields the structures that hang on a list_head by a member of theirs.
func (q *question) list(head uint64, limit int, typ, member string) iter.Seq[object] {
	link := q.at(typ, 0).field(member).off
	follow := func(at uint64) uint64 {
		if at = q.word(at); at == head {
			return 0
		}
		if at == 0 {
			q.fail(fmt.Errorf("%w: a list that is cut off", ErrWalk))
		}
		return at
	}
	return func(yield func(object) bool) {
		if q.err != nil {
			return
		}
		for at := range q.chain(follow(head), limit, follow) {
			if !yield(q.at(typ, at-link)) {
				return
			}
		}
	}
}

// hash hands the structures of a chain of a hash table to each, and gives the
// pointer that the chain ends with: nil, or odd and marked (hlist_nulls).
func (q *question) hash(first uint64, limit int, typ, member string, each func(object)) (end uint64) {
	link := q.at(typ, 0).field(member).off
	node := func(at uint64) uint64 {
		if at&1 != 0 {
			end = at
			return 0
		}
		return at
	}
	if q.err != nil {
		return 0
	}
	for at := range q.chain(node(first), limit, func(at uint64) uint64 { return node(q.word(at)) }) {
		each(q.at(typ, at-link))
	}
	return end
}

// Bounds of an xarray's tree: 64-bit indexes, at least 4 bits a level.
const maxLevels = 16

// xarray yields the pointers in an xarray, which an IDR is too
// (include/linux/xarray.h).
func (q *question) xarray(array object, limit int) iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		left := limit
		q.xaEntry(array.uint("xa_head"), maxLevels, &left, yield)
	}
}

func (q *question) xaEntry(entry uint64, levels int, left *int, yield func(uint64) bool) bool {
	switch {
	case q.err != nil:
		return false
	case entry == 0, entry&1 != 0, entry&3 == 2 && entry <= 4096: // nothing, a value, a mark
		return true
	}
	// A node counts as much as what is in it, or a tree of empty ones would be
	// walked without bound.
	if *left--; *left < 0 {
		q.fail(fmt.Errorf("%w: an array with too much in it", ErrWalk))
		return false
	}
	switch {
	case entry&3 == 0:
		return yield(entry)
	case levels == 0:
		q.fail(fmt.Errorf("%w: an array of too many levels", ErrWalk))
		return false
	}
	f := q.at("xa_node", 0).field("slots")
	slots := make([]byte, min(f.size, 64*8))
	q.memory(slots, entry-2+f.off)
	for i := 0; i+8 <= len(slots); i += 8 {
		if !q.xaEntry(le.Uint64(slots[i:]), levels-1, left, yield) {
			return false
		}
	}
	return q.err == nil
}
