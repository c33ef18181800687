package sigma

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParseText(t *testing.T) {
	lit := func(s string) Part { return Part{Literal, s} }
	one, many := Part{Kind: One}, Part{Kind: Many}
	for _, c := range []struct {
		in   string
		want []Part
	}{
		{``, nil},
		{`a`, []Part{lit(`a`)}},
		{`a*b?`, []Part{lit(`a`), many, lit(`b`), one}},
		// The specification's table of backslashes.
		{`C:\Windows`, []Part{lit(`C:\Windows`)}},
		{`C:\\Windows`, []Part{lit(`C:\Windows`)}},
		{`\*`, []Part{lit(`*`)}},
		{`\?x`, []Part{lit(`?x`)}},
		{`a\\*`, []Part{lit(`a\`), many}},
		{`a\\\*`, []Part{lit(`a\*`)}},
		{`\\\\`, []Part{lit(`\\`)}},
		{`\\\x`, []Part{lit(`\\x`)}},
		{`a\`, []Part{lit(`a\`)}},
	} {
		if d := cmp.Diff(c.want, parseText(c.in).Parts); d != "" {
			t.Errorf("%s (-want +got):\n%s", c.in, d)
		}
	}
}

// asRegexp says the same as a text, in another language.
func asRegexp(x *Text) *regexp.Regexp {
	var b strings.Builder
	b.WriteString(`(?s)\A`)
	for _, p := range x.Parts {
		b.WriteString(map[PartKind]string{
			Literal: regexp.QuoteMeta(p.Literal), One: ".", Many: ".*", Dash: "[-/–—―]",
		}[p.Kind])
	}
	return regexp.MustCompile(b.String() + `\z`)
}

func TestMatchAgreesWithRegexp(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	alphabet := []string{"a", "b", "ab", "é", "-", "—"}
	for range 30000 {
		x := &Text{Cased: true}
		for range rng.IntN(6) {
			if k := PartKind(rng.IntN(4)); k == Literal {
				x.Parts = append(x.Parts, Part{k, alphabet[rng.IntN(4)]})
			} else {
				x.Parts = append(x.Parts, Part{Kind: k})
			}
		}
		x = x.finished()
		var value strings.Builder
		for range rng.IntN(8) {
			value.WriteString(alphabet[rng.IntN(len(alphabet))])
		}
		if got, want := x.Match(value.String()), asRegexp(x).MatchString(value.String()); got != want {
			t.Fatalf("%v matches %q: %v, want %v", x.Parts, value.String(), got, want)
		}
	}
}

// What grows with the square of the length stays out of reach of a guest.
func TestMatchOfLongValues(t *testing.T) {
	x := parseText("*" + strings.Repeat("a*", 200) + "b")
	if x.Match(strings.Repeat("a", 1<<16)) {
		t.Error("matched")
	}
}

func TestFold(t *testing.T) {
	for _, same := range [][]string{
		{"abc", "ABC", "aBc"}, {"é", "É"}, {"k", "K", "\u212a"}, {"σ", "ς", "Σ"}, {"a\xff", "A\xff"},
	} {
		for _, s := range same {
			if Fold(s) != Fold(same[0]) {
				t.Errorf("%q folds to %q, %q to %q", s, Fold(s), same[0], Fold(same[0]))
			}
		}
	}
	if Fold("ab") == Fold("ac") {
		t.Error("different strings fold to the same")
	}
}

func FuzzFold(f *testing.F) {
	f.Add("aBc\xffÉ\u212a")
	f.Fuzz(func(t *testing.T, s string) {
		folded := Fold(s)
		if Fold(folded) != folded {
			t.Errorf("%q folds to %q, that to %q", s, folded, Fold(folded))
		}
		if utf8.ValidString(s) && !strings.EqualFold(s, folded) {
			t.Errorf("%q folds to %q", s, folded)
		}
	})
}

func TestBase64Offsets(t *testing.T) {
	value := "/bin/sh"
	for _, before := range []string{"", "x", "xy", "xyz"} {
		for _, after := range []string{"", "1", "12", "123"} {
			code := encoded(before + value + after)
			found := false
			for _, o := range base64Offsets(value) {
				found = found || strings.Contains(code, o)
			}
			if !found {
				t.Errorf("%q is not found in the base64 of %q", value, before+value+after)
			}
		}
	}
}
