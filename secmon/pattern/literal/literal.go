// Package literal finds which of many literals are in a text, in one pass over
// it whose cost does not grow with their number: the automaton of Aho and
// Corasick as a table of states and classes of bytes.
//
// Texts and literals are compared without case, by the folding of package
// sigma; that two of the same folding differ in case is for the caller to tell.
package literal

import (
	"slices"
	"unicode/utf8"

	"warder/secmon/pattern/sigma"
)

// Set is literals to look for. A set is not changed once built, and may be used
// by any number of goroutines.
type Set struct {
	classes [256]uint8 // of a byte: 0 for those in no literal
	width   int        // classes
	// next has, per state and class, where in it the next state begins; its top
	// bit reports that literals end there.
	next []uint32
	// outputs are the literals that end at a state: outputs[first[s]:first[s+1]].
	first   []uint32
	outputs []uint32
}

const hit = 1 << 31

// Max is how many bytes of a literal the automaton follows. What is longer is
// cut: a hit means that the text may contain the literal.
const Max = 8

// Key is the part of a literal that is looked for: at most Max bytes of ASCII,
// the last ones where there are more, as ends of paths and words tell more than
// their beginnings. It is "" where the literal has none, and so cannot be looked
// for. The literal must be folded.
func Key(literal string) string {
	best := ""
	for i := 0; i < len(literal); {
		if literal[i] >= utf8.RuneSelf {
			i++
			continue
		}
		j := i
		for j < len(literal) && literal[j] < utf8.RuneSelf {
			j++
		}
		if j-i > len(best) {
			best = literal[i:j]
		}
		i = j
	}
	return best[max(0, len(best)-Max):]
}

// New builds a set of keys, as Key gives them. They are numbered from 0 as
// given; the same key may be there several times. Empty ones are never found.
func New(keys []string) *Set {
	s := &Set{width: 1}
	for _, k := range keys {
		for _, b := range []byte(k) {
			if s.classes[b] == 0 {
				s.classes[b] = uint8(s.width)
				s.width++
			}
		}
	}
	for b := byte('A'); b <= 'Z'; b++ {
		s.classes[b] = s.classes[b+'a'-'A']
	}
	s.classes[0] = s.classes[' '] // arguments of a command line
	s.build(s.trie(keys))
	return s
}

// trie enters the keys and gives, per state, those that end there.
func (s *Set) trie(keys []string) [][]uint32 {
	s.next = make([]uint32, s.width)
	ends := make([][]uint32, 1)
	for n, k := range keys {
		if k == "" {
			continue
		}
		state := uint32(0)
		for _, b := range []byte(k) {
			at := int(state)*s.width + int(s.classes[b])
			if s.next[at] == 0 {
				s.next[at] = uint32(len(ends))
				s.next = append(s.next, make([]uint32, s.width)...)
				ends = append(ends, nil)
			}
			state = s.next[at]
		}
		ends[state] = append(ends[state], uint32(n))
	}
	return ends
}

// build makes an automaton of the trie: where it has no way on, the next state
// is that of the longest suffix that has one.
func (s *Set) build(ends [][]uint32) {
	fail := make([]uint32, len(ends))
	queue := make([]uint32, 0, len(ends))
	for _, child := range s.next[:s.width] {
		if child != 0 {
			queue = append(queue, child)
		}
	}
	for i := 0; i < len(queue); i++ {
		state := queue[i]
		row := s.next[int(state)*s.width : int(state+1)*s.width]
		back := s.next[int(fail[state])*s.width : int(fail[state]+1)*s.width]
		for c, child := range row {
			if child == 0 {
				row[c] = back[c]
				continue
			}
			fail[child] = back[c]
			queue = append(queue, child)
		}
		ends[state] = append(slices.Clip(ends[state]), ends[fail[state]]...)
	}
	s.first = make([]uint32, len(ends)+1)
	for state, e := range ends {
		s.outputs = append(s.outputs, e...)
		s.first[state+1] = uint32(len(s.outputs))
	}
	for i, to := range s.next {
		s.next[i] = to * uint32(s.width)
		if len(ends[to]) > 0 {
			s.next[i] |= hit
		}
	}
}

// Append appends the numbers of the keys that are in text to found, each at least
// once. The text may be in any case, and NUL counts as a space. It allocates
// nothing but room in found for a text of ASCII.
func (s *Set) Append(found []uint32, text string) []uint32 { return find(s, found, text) }

// AppendBytes is Append for a text in bytes.
func (s *Set) AppendBytes(found []uint32, text []byte) []uint32 { return find(s, found, text) }

func find[T string | []byte](s *Set, found []uint32, text T) []uint32 {
	if len(s.outputs) == 0 {
		return found
	}
	state, next := uint32(0), s.next
	for i := range len(text) {
		b := text[i]
		if b >= utf8.RuneSelf {
			return s.appendFolded(found, string(text))
		}
		state = next[state&^hit+uint32(s.classes[b])]
		if state&hit != 0 {
			found = s.appendOutputs(found, state)
		}
	}
	return found
}

// appendFolded is for texts in which other characters may stand for ASCII's, as
// the sign for kelvin does for k.
func (s *Set) appendFolded(found []uint32, text string) []uint32 {
	state := uint32(0)
	for _, b := range sigma.AppendFold(nil, text) {
		state = s.next[state&^hit+uint32(s.classes[b])]
		if state&hit != 0 {
			found = s.appendOutputs(found, state)
		}
	}
	return found
}

func (s *Set) appendOutputs(found []uint32, state uint32) []uint32 {
	n := (state &^ hit) / uint32(s.width)
	return append(found, s.outputs[s.first[n]:s.first[n+1]]...)
}

// Bytes is how much memory the set takes.
func (s *Set) Bytes() int { return 4*(len(s.next)+len(s.first)+len(s.outputs)) + 256 }
