package sigma

import (
	"encoding/base64"
	"encoding/binary"
	"unicode/utf16"
)

// asUTF16 encodes a literal. A lone byte that is no UTF-8 becomes U+FFFD, as
// there is no character that it could be.
func asUTF16(order binary.AppendByteOrder, s string) string {
	var out []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		out = order.AppendUint16(out, unit)
	}
	return string(out)
}

// base64Offsets are the forms that s takes inside of the base64 of something
// longer, by where it starts in a group of three bytes. Characters that also
// depend on the neighbours of s are left off; of a single byte nothing may be
// left.
func base64Offsets(s string) []string {
	first := [3]int{0, 2, 3} // characters that hold bits of what is before
	last := [3]int{0, 3, 2}  // padding, and the character before it
	var out []string
	for shift := range 3 {
		padded := append(make([]byte, shift), s...)
		code := base64.StdEncoding.EncodeToString(padded)
		from, to := first[shift], len(code)-last[len(padded)%3]
		out = append(out, code[from:max(from, to)])
	}
	return out
}
