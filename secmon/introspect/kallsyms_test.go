package introspect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tableStyle is a way in which kernels lay out their symbol tables.
type tableStyle struct {
	arch           string
	flat           bool
	absolutePerCPU bool
	sequences      bool // between markers and tokens, 3 bytes a symbol
	offsetsFirst   bool // before the names, up to 6.3
}

var styles = map[string]tableStyle{
	"6.12 amd64":    {arch: "amd64", absolutePerCPU: true},
	"6.12 arm64":    {arch: "arm64", flat: true},
	"6.15 amd64":    {arch: "amd64"},
	"6.1 amd64":     {arch: "amd64", absolutePerCPU: true, offsetsFirst: true},
	"6.1 arm64":     {arch: "arm64", flat: true, offsetsFirst: true},
	"6.1.192 amd64": {arch: "amd64", absolutePerCPU: true, offsetsFirst: true, sequences: true},
}

// encode writes symbol tables as scripts/kallsyms.c does, in the middle of
// other data. Tokens are single characters and a few longer ones.
func (s tableStyle) encode(syms []Symbol, base uint64, r *rand.Rand) []byte {
	var out []byte
	for range 1000 + r.IntN(1000) {
		out = append(out, byte(r.Uint32()))
	}
	align := func() {
		for len(out)%8 != 0 {
			out = append(out, 0)
		}
	}
	offsets := func() {
		align()
		for _, sym := range syms {
			v := uint32(sym.Addr - base)
			if s.absolutePerCPU {
				if v = uint32(sym.Addr); sym.Addr >= base {
					v = uint32(base - 1 - sym.Addr)
				}
			}
			out = binary.LittleEndian.AppendUint32(out, v)
		}
		align()
		stored := base
		if s.flat {
			stored = 0 // filled in by the kernel's self-relocation
		}
		out = binary.LittleEndian.AppendUint64(out, stored)
	}
	if s.offsetsFirst {
		offsets()
	}
	align()
	out = binary.LittleEndian.AppendUint64(out, uint64(len(syms)))
	start := len(out)
	var markers []uint32
	long := map[string]byte{"sys_": 1, "__x64_": 2, "_lock": 3}
	for i, sym := range syms {
		if i%markerEvery == 0 {
			markers = append(markers, uint32(len(out)-start))
		}
		name := string(sym.Type) + sym.Name
		var packed []byte
		for name != "" {
			token, n := name[0], 1
			for text, t := range long {
				if len(name) >= len(text) && name[:len(text)] == text {
					token, n = t, len(text)
				}
			}
			packed, name = append(packed, token), name[n:]
		}
		if len(packed) < 0x80 {
			out = append(out, byte(len(packed)))
		} else {
			out = append(out, byte(len(packed))&0x7f|0x80, byte(len(packed)>>7))
		}
		out = append(out, packed...)
	}
	align()
	for _, m := range markers {
		out = binary.LittleEndian.AppendUint32(out, m)
	}
	align()
	if s.sequences {
		for i := range syms {
			out = append(out, byte(i>>16), byte(i>>8), byte(i))
		}
		align()
	}
	var index []uint16
	start = len(out)
	for i := range tokens {
		index = append(index, uint16(len(out)-start))
		text := string(rune('!'))
		if i >= 32 && i < 127 {
			text = string(rune(i))
		}
		for t, n := range long {
			if int(n) == i {
				text = t
			}
		}
		out = append(append(out, text...), 0)
	}
	align()
	for _, i := range index {
		out = binary.LittleEndian.AppendUint16(out, i)
	}
	if !s.offsetsFirst {
		offsets()
	}
	for range 100 + r.IntN(100) {
		out = append(out, byte(r.Uint32()))
	}
	return out
}

func (s tableStyle) image(syms []Symbol, r *rand.Rand) *image {
	base := uint64(0xffffffff81000000)
	if s.flat {
		base = 0
	}
	return &image{arch: s.arch, flat: s.flat, segments: []segment{{base, s.encode(syms, base, r)}}}
}

// someSymbols makes a sorted table, per-CPU offsets first where there are any.
func (s tableStyle) someSymbols(n int, r *rand.Rand) []Symbol {
	addr := uint64(0xffffffff81000000)
	if s.flat {
		addr = 0
	}
	var syms []Symbol
	if s.absolutePerCPU {
		for i := range n / 10 {
			syms = append(syms, Symbol{fmt.Sprintf("per_cpu_%d", i), 'A', uint64(i) * 64})
		}
	}
	for len(syms) < n {
		name := fmt.Sprintf("__x64_sys_%d_lock", len(syms))
		if r.IntN(100) == 0 {
			name += fmt.Sprintf("%0150d", len(syms))
		}
		syms = append(syms, Symbol{name, "TtDdRr"[r.IntN(6)], addr})
		addr += r.Uint64N(256)
	}
	return syms
}

func TestKallsyms(t *testing.T) {
	for name, s := range styles {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(len(name))))
			for _, n := range []int{600, 1024, 1025, 5000} {
				want := s.someSymbols(n, r)
				got, err := findKallsyms(s.image(want, r))
				if err != nil {
					t.Fatalf("%d symbols: %v", n, err)
				}
				if d := cmp.Diff(want, slices.Collect(got.All())); d != "" {
					t.Fatalf("%d symbols (-want +got):\n%s", n, d)
				}
			}
		})
	}
}

func TestNoKallsyms(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	s := styles["6.12 amd64"]
	im := s.image(s.someSymbols(2000, r), r)
	whole := im.segments[0].data
	for _, n := range []int{0, 1, 100, len(whole) / 3, len(whole) / 2, len(whole) * 9 / 10} {
		im.segments[0].data = whole[:n]
		if syms, err := findKallsyms(im); !errors.Is(err, ErrNoKallsyms) {
			t.Errorf("%d of %d bytes: %v, %v", n, len(whole), syms, err)
		}
	}
}

// A table whose names expand beyond all measure is none.
func TestKallsymsExpansion(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	s := styles["6.1 amd64"]
	syms := s.someSymbols(600, r)
	for n, ok := range map[int]bool{maxSymbolName - 1: true, maxSymbolName: false} {
		syms[300].Name = strings.Repeat("x", n)
		if _, err := findKallsyms(s.image(syms, r)); (err == nil) != ok {
			t.Errorf("a name of %d characters: %v", n, err)
		}
	}
}

func FuzzKallsyms(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6}, byte(0))
	f.Add([]byte{200, 20, 0, 0, 1, 255}, byte(3))
	names := []string{"6.12 amd64", "6.12 arm64", "6.1 amd64", "6.1.192 amd64"}
	f.Fuzz(func(t *testing.T, changes []byte, style byte) {
		s := styles[names[int(style)%len(names)]]
		r := rand.New(rand.NewPCG(3, 4))
		im := s.image(s.someSymbols(600, r), r)
		data := im.segments[0].data
		for ; len(changes) >= 3; changes = changes[3:] {
			data[(int(changes[0])|int(changes[1])<<8)%len(data)] = changes[2]
		}
		if syms, err := findKallsyms(im); err == nil && syms.Len() == 0 {
			t.Error("a table without symbols")
		}
	})
}

func TestSymbols(t *testing.T) {
	s := newSymbols([]Symbol{{"a", 'A', 0}, {"_text", 'T', 0x1000}, {"f", 't', 0x1010}, {"f", 't', 0x2000}})
	if sym, ok := s.Lookup("f"); !ok || sym.Addr != 0x1010 {
		t.Errorf("f: %+v, %v", sym, ok)
	}
	if _, err := s.Addr("g"); err == nil {
		t.Error("a symbol that is not there has an address")
	}
	for addr, want := range map[uint64]string{0: "a", 0x1000: "_text", 0x1001: "_text+0x1", 0x1fff: "f+0xfef", 0x2004: "f+0x4"} {
		if got := s.Near(addr); got != want {
			t.Errorf("%#x is near %s, want %s", addr, got, want)
		}
	}
}
