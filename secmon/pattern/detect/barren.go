package detect

// barren remembers texts of one field in which nothing was found, for the same
// few programs, users and system calls come again and again. It is a table in
// which one text takes the place of another.
type barren [32]string

// maxBarren is how long a text may be that is remembered, in bytes: a longer one
// seldom comes again, and comparing it costs as much as searching it.
const maxBarren = 64

func (b *barren) at(text string) *string {
	n := len(text)
	mix := uint(n) + uint(text[0])*3 + uint(text[n/2])*31 + uint(text[n-1])*7
	return &b[mix%uint(len(b))]
}

func (b *barren) has(text string) bool {
	return len(text) > 0 && len(text) <= maxBarren && *b.at(text) == text
}

func (b *barren) add(text string) {
	if len(text) > 0 && len(text) <= maxBarren {
		*b.at(text) = text
	}
}
