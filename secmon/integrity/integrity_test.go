package integrity

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestJumpForms(t *testing.T) {
	const at = 0x1000
	for _, tt := range []struct {
		code   []byte
		target uint64
		known  bool
	}{
		{[]byte{0x66, 0x90}, at + 9, true},
		{[]byte{0xeb, 0x07}, at + 9, true},
		{[]byte{0xeb, 0xfe}, at, true},
		{[]byte{0xeb, 0x08}, at + 9, false},
		{[]byte{0x0f, 0x1f, 0x44, 0, 0}, at + 0x1005, true},
		{[]byte{0xe9, 0, 0x10, 0, 0}, at + 0x1005, true},
		{[]byte{0xe8, 0, 0x10, 0, 0}, at + 0x1005, false},
		{[]byte{0xe9, 0xfb, 0xff, 0xff, 0xff}, at, true},
		{[]byte{0x1f, 0x20, 0x03, 0xd5}, at + 8, true},
		{[]byte{0x02, 0, 0, 0x14}, at + 8, true},
		{[]byte{0xff, 0xff, 0xff, 0x17}, at - 4, true},
		{[]byte{0x02, 0, 0, 0x94}, at + 8, false}, // bl
		{[]byte{0x03, 0, 0, 0x14}, at + 8, false},
		{[]byte{0x90, 0x90, 0x90}, at, false},
		{nil, at, false},
	} {
		if got := (jump{at: at, target: tt.target}).known(tt.code); got != tt.known {
			t.Errorf("% x to %#x: %v", tt.code, tt.target, got)
		}
	}
}

// fakeKernel is memory from base on with the symbols of a kernel.
type fakeKernel struct {
	base   uint64
	memory []byte
	names  map[string]uint64
}

func (k *fakeKernel) ReadAt(p []byte, at uint64) error {
	if at < k.base || at-k.base > uint64(len(k.memory)) || uint64(len(p)) > uint64(len(k.memory))-(at-k.base) {
		return errors.New("not mapped")
	}
	copy(p, k.memory[at-k.base:])
	return nil
}

func (k *fakeKernel) Addr(name string) (uint64, error) {
	at, ok := k.names[name]
	if !ok {
		return 0, fmt.Errorf("no symbol %s", name)
	}
	return at, nil
}

func (k *fakeKernel) at(va uint64) []byte { return k.memory[va-k.base:] }

// newFakeKernel has code of three chunks and a bit, and jump labels of which one lies
// over the border of two chunks, one at the very end.
func newFakeKernel() (k *fakeKernel, labels []uint64) {
	const base, size = 0xffff_ffff_8100_0000, 3*chunk + 100
	k = &fakeKernel{base: base, memory: make([]byte, size+4096), names: map[string]uint64{
		"_stext": base, "_etext": base + size, "__start___jump_table": base + size + 8,
	}}
	for i := range k.memory {
		k.memory[i] = byte(i * 7)
	}
	labels = []uint64{base + 16, base + chunk - 3, base + 2*chunk, base + 2*chunk + 5, base + size - maxJump}
	at := k.names["__start___jump_table"]
	for i, l := range append(labels, base-100) { // that one is not in the code
		binary.LittleEndian.PutUint32(k.at(at), uint32(l-at))
		binary.LittleEndian.PutUint32(k.at(at+4), uint32(base+100*uint64(i)-(at+4)))
		if i < len(labels) {
			copy(k.at(l), []byte{0x0f, 0x1f, 0x44, 0, 0})
		}
		at += entrySize
	}
	k.names["__stop___jump_table"] = at
	return k, labels
}

// turn has a jump label jump.
func (k *fakeKernel) turn(labels []uint64, i int) {
	l := labels[i]
	k.at(l)[0] = 0xe9
	binary.LittleEndian.PutUint32(k.at(l+1), uint32(k.base+100*uint64(i)-(l+5)))
}

func TestText(t *testing.T) {
	k, labels := newFakeKernel()
	text, err := takeText(k, k, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(text.jumps) != len(labels) || len(text.sums) != 3*chunk/pageSize+1 {
		t.Fatalf("%d jump labels, %d pages", len(text.jumps), len(text.sums))
	}
	check := func(what string, want ...uint64) {
		t.Helper()
		got, err := text.changed(k, nil)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: changed at %#x, %v, want %#x", what, got, err, want)
		}
	}
	check("nothing")
	for i := range labels {
		k.turn(labels, i)
	}
	check("jump labels turned")
	k.at(labels[1])[0] = 0xe8
	k.at(labels[4])[4]++
	check("calls and jumps elsewhere", labels[1], labels[4])
	k.turn(labels, 1)
	k.turn(labels, 4)
	for _, off := range []uint64{0, 15, 21, chunk - 4, chunk + 2, 2*chunk - 1, 3*chunk + 94} {
		k.memory[off]++
		check(fmt.Sprintf("the byte at %#x", off), k.base+off&^(pageSize-1))
		k.memory[off]--
	}
	check("all put back")

	hooked := labels[0] + 100
	was := k.at(hooked)[0]
	k.at(hooked)[0] ^= 0xff
	got, err := text.changed(k, func(at uint64, code []byte) {
		if at <= hooked && hooked-at < uint64(len(code)) {
			code[hooked-at] = was
		}
	})
	if len(got) != 0 || err != nil {
		t.Errorf("at a hook: %#x, %v", got, err)
	}
	k.memory = k.memory[:chunk]
	if _, err := text.changed(k, nil); err == nil {
		t.Error("code that cannot be read is none")
	}
}

func TestNoText(t *testing.T) {
	for name, spoil := range map[string]func(k *fakeKernel){
		"no _etext":               func(k *fakeKernel) { delete(k.names, "_etext") },
		"no jump labels":          func(k *fakeKernel) { delete(k.names, "__stop___jump_table") },
		"an end before the start": func(k *fakeKernel) { k.names["_etext"] = k.base - 4096 },
		"endless":                 func(k *fakeKernel) { k.names["_etext"] = k.base + maxCode + 1 },
		"endless labels":          func(k *fakeKernel) { k.names["__stop___jump_table"] += maxJumps * entrySize },
		"labels upside down":      func(k *fakeKernel) { k.names["__stop___jump_table"] = k.base },
	} {
		k, _ := newFakeKernel()
		spoil(k)
		if text, err := takeText(k, k, nil); err == nil {
			t.Errorf("%s: %+v", name, text.jumps)
		}
	}
}

// What a guest calls things is no line of its own in a log, and not longer than one.
func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"1 (init): code":         "1 (init): code",
		"a\nb\x1b[2Jc\x00":       "a?b?[2Jc?",
		"\xff\xfe":               "\ufffd\ufffd",
		strings.Repeat("x", 999): strings.Repeat("x", maxText),
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
