package splice

import "regexp"

// maxSequence bounds how long a rule's sequence is.
const maxSequence = 32

// sequence looks for parts that match the expressions of a sequence one after the
// other, in the order of their times; others may be between them. It marks every
// part that is in one such run of parts, and says whether there is any.
func (m *match) sequence(parts []part, steps []*regexp.Regexp) bool {
	found := make([][][]int, len(parts)) // by part and step: where it matches
	for i := range parts {
		found[i] = make([][]int, len(steps))
		for k, re := range steps {
			found[i][k] = re.FindIndex(parts[i].event.Call.Payload)
		}
	}
	// first is where the steps before one are done at the earliest, last where
	// those behind it begin at the latest.
	first, last := make([]int, len(steps)), make([]int, len(steps))
	at := -1
	for k := range steps {
		first[k] = at
		for at++; at < len(parts) && found[at][k] == nil; at++ {
		}
		if at >= len(parts) {
			return false
		}
		place := found[at][k]
		m.texts = append(m.texts, quote(parts[at].event.Call.Payload[place[0]:place[1]]))
	}
	at = len(parts)
	for k := len(steps) - 1; k >= 0; k-- {
		last[k] = at
		for at--; found[at][k] == nil; at-- {
		}
	}
	for i := range parts {
		for k := range steps {
			if p := found[i][k]; p != nil && first[k] < i && i < last[k] {
				m.parts[i] = append(m.parts[i], parts[i].event.Call.Payload[p[0]:p[1]])
				break
			}
		}
	}
	return true
}
