package introspect

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// shapes are types of each kind: as C,
//
//	enum colour { RED, BLUE = 5 };
//	struct inner { int a; unsigned b : 3, c : 5; enum colour colour; char name[8]; };
//	struct outer { struct inner in; struct outer *next; int list[3]; char *text; bool flag; };
func shapes(t testing.TB) *btf.Spec {
	t.Helper()
	i32 := &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	u32 := &btf.Int{Name: "unsigned int", Size: 4}
	char := &btf.Int{Name: "char", Size: 1, Encoding: btf.Signed}
	colour := &btf.Enum{Name: "colour", Size: 4, Values: []btf.EnumValue{{Name: "RED", Value: 0}, {Name: "BLUE", Value: 5}}}
	inner := &btf.Struct{Name: "inner", Size: 20, Members: []btf.Member{
		{Name: "a", Type: i32}, {Name: "b", Type: u32, Offset: 32, BitfieldSize: 3}, {Name: "c", Type: u32, Offset: 35, BitfieldSize: 5},
		{Name: "colour", Type: colour, Offset: 64}, {Name: "name", Type: &btf.Array{Type: char, Index: u32, Nelems: 8}, Offset: 96},
	}}
	outer := &btf.Struct{Name: "outer", Size: 64}
	outer.Members = []btf.Member{
		{Name: "in", Type: inner}, {Name: "next", Type: &btf.Pointer{Target: outer}, Offset: 24 * 8},
		{Name: "list", Type: &btf.Array{Type: i32, Index: u32, Nelems: 3}, Offset: 32 * 8},
		{Name: "text", Type: &btf.Pointer{Target: char}, Offset: 48 * 8},
		{Name: "flag", Type: &btf.Int{Name: "_Bool", Size: 1, Encoding: btf.Bool}, Offset: 56 * 8},
	}
	b, err := btf.NewBuilder([]btf.Type{outer, &btf.Typedef{Name: "outer_t", Type: outer}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

func shaped(t testing.TB) (l *land, first, second uint64) {
	l = newLand(t)
	l.live.types = shapes(t)
	first, second = l.alloc(64), l.alloc(64)
	l.put(first, 0xffff_fffe|uint64(0b10101_011)<<32) // a = -2, b = 3, c = 21
	l.put(first+8, 5)
	copy(l.bytes[first+12-landBase:], "name\x00xyz")
	l.put(first+24, second)
	l.put(first+32, 10|20<<32)
	l.put(first+40, 30)
	l.put(first+48, l.str("a text"))
	l.put(first+56, 1)
	l.put(second, 7)
	return l, first, second
}

func TestStruct(t *testing.T) {
	l, first, second := shaped(t)
	v, err := l.live.Struct(t.Context(), "struct outer", first, "")
	if err != nil {
		t.Fatal(err)
	}
	j, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"name":"a","type":"int"`, `"value":"-2"`, `"name":"b","type":"unsigned int : 3"`, `"value":"3"`, `"value":"21"`,
		`"value":"BLUE (5)"`, `"value":"\"name\""`, `"type":"struct outer *"`, `"name":"[2]"`, `"value":"30"`, `\"a text\"`, `"value":"true"`,
	} {
		if !strings.Contains(string(j), want) {
			t.Errorf("%s lacks %s", j, want)
		}
	}
	for path, want := range map[string]string{
		"next->in.a": "7", "in.name": `"name"`, "list[1]": "20", "next": "", "in.b": "cannot be resolved",
		"next.next": "nil", "list[3]": "no such element", "nowhere": "no such member", "in.a.b": "no such member",
	} {
		v, err := l.live.Struct(t.Context(), "outer_t", first, path)
		switch {
		case err != nil && (!errors.Is(err, ErrExpression) || !strings.Contains(err.Error(), want) || want == ""):
			t.Errorf("%s: %v", path, err)
		case err == nil && v.Value != want:
			t.Errorf("%s: %+v", path, v)
		case path == "next" && (uint64(v.Addr) != second || len(v.Members) != 5):
			t.Errorf("%s: %+v", path, v)
		}
	}
	if _, err := l.live.Struct(t.Context(), "struct colour", first, ""); !errors.Is(err, ErrExpression) {
		t.Errorf("an enum as a struct: %v", err)
	}
	if _, err := l.live.Struct(t.Context(), "outer", unmapped, ""); !errors.Is(err, ErrNotResident) {
		t.Errorf("at an address where nothing is: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	l, first, _ := shaped(t)
	for expr, want := range map[string]uint64{
		"0x100": 0x100, "256": 256, "init_task": l.init, "init_task+0x10": l.init + 16, "0x10+16": 32,
	} {
		if at, err := l.live.Resolve(t.Context(), expr); err != nil || at != want {
			t.Errorf("%s: %#x, %v", expr, at, err)
		}
	}
	for _, expr := range []string{"", "nobody", "init_task+x", "0xg", "0x1ffffffffffffffff", "+"} {
		if at, err := l.live.Resolve(t.Context(), expr); !errors.Is(err, ErrExpression) {
			t.Errorf("%q: %#x, %v", expr, at, err)
		}
	}
	if err := l.live.Write(t.Context(), 0, first, []byte{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	var p [3]byte
	if err := l.live.Read(t.Context(), 0, first, p[:]); err != nil || p != [3]byte{1, 2, 3} {
		t.Errorf("% x, %v", p, err)
	}
	if err := l.live.Read(t.Context(), 0, unmapped, p[:]); !errors.Is(err, ErrNotResident) {
		t.Errorf("where nothing is: %v", err)
	}
	if err := l.live.Read(t.Context(), 99, first, p[:]); !errors.Is(err, ErrNoProcess) {
		t.Errorf("of nobody: %v", err)
	}
}
