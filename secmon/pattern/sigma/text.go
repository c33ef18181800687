package sigma

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text is a pattern for a whole value: literal pieces and wildcards.
type Text struct {
	Parts []Part
	// Cased says that case matters. Without it the literals are folded, as by
	// [Fold].
	Cased bool
}

// Part is a piece of a [Text].
type Part struct {
	Kind    PartKind
	Literal string // of kind Literal, never empty
}

// PartKind is what a part of a text stands for.
type PartKind uint8

const (
	Literal PartKind = iota
	One              // any one character
	Many             // any characters, or none
	Dash             // one of - / – — ―
)

const dashes = "-/–—―"

// parseText reads Sigma's wildcards: * and ?, and a backslash that takes the
// meaning from one of these or from a backslash.
func parseText(s string) *Text {
	t := &Text{}
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			t.Parts = append(t.Parts, Part{Literal, literal.String()})
			literal.Reset()
		}
	}
	for i := 0; i < len(s); i++ {
		switch b := s[i]; {
		case b == '\\' && i+1 < len(s) && strings.IndexByte(`*?\`, s[i+1]) >= 0:
			i++
			literal.WriteByte(s[i])
		case b == '*':
			flush()
			t.Parts = append(t.Parts, Part{Kind: Many})
		case b == '?':
			flush()
			t.Parts = append(t.Parts, Part{Kind: One})
		default:
			literal.WriteByte(b)
		}
	}
	flush()
	return t
}

// plain is the text's one literal; ok is false where it has wildcards.
func (t *Text) plain() (s string, ok bool) {
	switch len(t.Parts) {
	case 0:
		return "", true
	case 1:
		return t.Parts[0].Literal, t.Parts[0].Kind == Literal
	}
	return "", false
}

// anchored gives the text the place that a modifier asks for.
func (t *Text) anchored(where Anchor) *Text {
	out := &Text{Cased: t.Cased}
	many := Part{Kind: Many}
	if where == Suffix || where == Anywhere {
		out.Parts = append(out.Parts, many)
	}
	out.Parts = append(out.Parts, t.Parts...)
	if where == Prefix || where == Anywhere {
		out.Parts = append(out.Parts, many)
	}
	return out
}

// mapLiterals replaces each literal by what f makes of it.
func (t *Text) mapLiterals(f func(string) []Part) *Text {
	out := &Text{Cased: t.Cased}
	for _, p := range t.Parts {
		if p.Kind == Literal {
			out.Parts = append(out.Parts, f(p.Literal)...)
		} else {
			out.Parts = append(out.Parts, p)
		}
	}
	return out
}

// withDashes lets every dash be any other.
func (t *Text) withDashes() *Text {
	return t.mapLiterals(func(s string) (parts []Part) {
		for s != "" {
			i := strings.IndexAny(s, dashes)
			if i < 0 {
				return append(parts, Part{Literal, s})
			}
			if i > 0 {
				parts = append(parts, Part{Literal, s[:i]})
			}
			parts = append(parts, Part{Kind: Dash})
			_, n := utf8.DecodeRuneInString(s[i:])
			s = s[i+n:]
		}
		return parts
	})
}

// finished folds the literals and joins wildcards that mean the same together.
func (t *Text) finished() *Text {
	out := &Text{Cased: t.Cased}
	for _, p := range t.Parts {
		if p.Kind == Literal && !t.Cased {
			p.Literal = Fold(p.Literal)
		}
		n := len(out.Parts)
		switch {
		case n > 0 && p.Kind == Many && out.Parts[n-1].Kind == Many:
		case n > 0 && p.Kind == Literal && out.Parts[n-1].Kind == Literal:
			out.Parts[n-1].Literal += p.Literal
		default:
			out.Parts = append(out.Parts, p)
		}
	}
	return out
}

// Simple gives the literal of a text that is one literal at one place.
func (t *Text) Simple() (literal string, where Anchor, ok bool) {
	parts := t.Parts
	if n := len(parts); n > 0 && parts[0].Kind == Many {
		where, parts = Suffix, parts[1:]
	}
	if n := len(parts); n > 0 && parts[n-1].Kind == Many {
		if where == Suffix {
			where = Anywhere
		} else {
			where = Prefix
		}
		parts = parts[:n-1]
	}
	switch {
	case len(parts) == 0:
		if where != Whole {
			where = Anywhere
		}
		return "", where, true
	case len(parts) == 1 && parts[0].Kind == Literal:
		return parts[0].Literal, where, true
	}
	return "", 0, false
}

// Match says whether a value is as the text has it. For a text that is not
// Cased the value must have been folded by [Fold].
//
// It takes at most time proportional to the length of the value times that of
// the text.
func (t *Text) Match(value string) bool {
	if literal, where, ok := t.Simple(); ok {
		return where.match(value, literal)
	}
	// The usual walk for wildcards: on a mismatch the last * takes one more.
	parts, star, retry := t.Parts, -1, ""
	i := 0
	for {
		if i < len(parts) && parts[i].Kind == Many {
			star, retry = i, value
			i++
			continue
		}
		if i == len(parts) {
			if value == "" {
				return true
			}
			if star == len(parts)-1 {
				return true
			}
		} else if rest, ok := parts[i].take(value); ok {
			value = rest
			i++
			continue
		}
		if star < 0 || retry == "" {
			return false
		}
		_, next := utf8.DecodeRuneInString(retry)
		if p := parts[star+1]; p.Kind == Literal {
			at := strings.Index(retry[next:], p.Literal)
			if at < 0 {
				return false
			}
			next += at
		}
		retry = retry[next:]
		value, i = retry, star+1
	}
}

// take matches one part at the start of a value and gives what follows.
func (p Part) take(value string) (rest string, ok bool) {
	switch p.Kind {
	case Literal:
		return strings.CutPrefix(value, p.Literal)
	case Dash:
		r, n := utf8.DecodeRuneInString(value)
		return value[n:], n > 0 && strings.ContainsRune(dashes, r)
	default:
		_, n := utf8.DecodeRuneInString(value)
		return value[n:], n > 0
	}
}

func (a Anchor) match(value, literal string) bool {
	switch a {
	case Whole:
		return value == literal
	case Prefix:
		return strings.HasPrefix(value, literal)
	case Suffix:
		return strings.HasSuffix(value, literal)
	default:
		return strings.Contains(value, literal)
	}
}

// Match says whether a text is found in a value at that place.
func (a Anchor) Match(value, text string) bool { return a.match(value, text) }

// Fold makes strings that differ in case alone the same, by Unicode's simple
// case folding. Bytes that are no UTF-8 stay as they are. It returns s itself
// where there is nothing to change.
func Fold(s string) string {
	for i := 0; i < len(s); i++ {
		if b := s[i]; b >= utf8.RuneSelf || 'A' <= b && b <= 'Z' {
			return string(AppendFold(make([]byte, 0, len(s)+8), s))
		}
	}
	return s
}

// AppendFold appends the folded s to dst.
func AppendFold(dst []byte, s string) []byte {
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf {
			if 'A' <= b && b <= 'Z' {
				b += 'a' - 'A'
			}
			dst = append(dst, b)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			dst = append(dst, b)
		} else {
			dst = utf8.AppendRune(dst, foldRune(r))
		}
		i += n
	}
	return dst
}

// foldRune is the same for all runes that differ in case alone: the smallest
// of them, as a lower-case letter where it is ASCII.
func foldRune(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	if 'A' <= least && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}
