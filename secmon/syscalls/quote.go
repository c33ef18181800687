package syscalls

import (
	"fmt"
	"strings"
)

// escapes of C that strace writes; other bytes that are no ASCII are octal.
var escapes = map[byte]string{
	'\t': `\t`, '\n': `\n`, '\v': `\v`, '\f': `\f`, '\r': `\r`, '"': `\"`, '\\': `\\`,
}

const octal = "01234567"

// Quote writes bytes as a string of C, at most limit of them, with "..." behind it
// when there are more.
func Quote(s string, limit int) string {
	rest := ""
	if len(s) > limit {
		s, rest = s[:limit], "..."
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		c := s[i]
		switch {
		case escapes[c] != "":
			b.WriteString(escapes[c])
		case c >= ' ' && c < 0x7f:
			b.WriteByte(c)
		default:
			// As short as the next byte allows.
			long := i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '7'
			b.WriteByte('\\')
			if long || c >= 0o100 {
				b.WriteByte(octal[c>>6])
			}
			if long || c >= 0o10 {
				b.WriteByte(octal[c>>3&7])
			}
			b.WriteByte(octal[c&7])
		}
	}
	b.WriteByte('"')
	return b.String() + rest
}

// quoteHex is Quote with every byte in hexadecimal.
func quoteHex(s string, limit int) string {
	rest := ""
	if len(s) > limit {
		s, rest = s[:limit], "..."
	}
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, `\x%02x`, s[i])
	}
	return `"` + b.String() + `"` + rest
}
