package literal

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"warder/secmon/pattern/sigma"
)

func numbers(s *Set, text string) []uint32 {
	hits := s.Append(nil, text)
	slices.Sort(hits)
	return slices.Compact(hits)
}

func TestFindAgreesWithContains(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	random := func(n int) string {
		b := make([]byte, rng.IntN(n))
		for i := range b {
			b[i] = "ab /"[rng.IntN(4)]
		}
		return string(b)
	}
	for range 2000 {
		var keys []string
		for range rng.IntN(12) {
			keys = append(keys, Key(random(12)))
		}
		text := random(40)
		var want []uint32
		for i, k := range keys {
			if k != "" && strings.Contains(text, k) {
				want = append(want, uint32(i))
			}
		}
		if got := numbers(New(keys), text); !slices.Equal(got, want) {
			t.Fatalf("%q in %q: found %v, want %v", keys, text, got, want)
		}
	}
}

func TestCaseAndArguments(t *testing.T) {
	s := New([]string{Key(sigma.Fold("Kelvin")), Key("rm -rf"), Key("é"), Key("naïve/x")})
	for text, want := range map[string][]uint32{
		"KELVIN": {0}, "\u212aelvin": {0}, "rm\x00-rf\x00/": {1}, "é": nil, "NAÏVE/X": {3}, "": nil,
	} {
		if got := numbers(s, text); !slices.Equal(got, want) {
			t.Errorf("%q: found %v, want %v", text, got, want)
		}
	}
	if got := numbers(New(nil), "anything"); got != nil {
		t.Errorf("a set of nothing found %v", got)
	}
}

func TestKey(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "é": "", "/bin/sh": "/bin/sh", "/usr/bin/python": "n/python", "aéabcéab": "abc",
	} {
		if got := Key(in); got != want {
			t.Errorf("key of %q: %q, want %q", in, got, want)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{10, 1000, 20000} {
		keys := make([]string, n)
		for i := range keys {
			k := make([]byte, Max)
			for j := range k {
				k[j] = "abcdefghijklmnopqrstuvwxyz/-. 0123"[rng.IntN(34)]
			}
			keys[i] = string(k)
		}
		s := New(keys)
		text := "/usr/bin/find\x00/var/lib/dpkg/info\x00-name\x00*.list\x00-newer\x00/tmp/stamp\x00"
		b.Run(map[int]string{10: "10", 1000: "1000", 20000: "20000"}[n], func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			var hits []uint32
			for b.Loop() {
				hits = s.Append(hits[:0], text)
			}
		})
	}
}
