package disasm

import (
	"encoding/binary"
	"errors"
	"testing"
)

func TestAMD64(t *testing.T) {
	const pc = 0xffff_ffff_8100_0000
	for name, tt := range map[string]struct {
		code []byte
		mode int
		want string
		n    int
	}{
		"hook":            {[]byte{0xe6, 0xea, 0x90, 0x90, 0x90}, 64, "out %al,$0xea", 2},
		"patchable nop":   {[]byte{0x0f, 0x1f, 0x44, 0x00, 0x00}, 64, "nopl (%rax,%rax)", 5},
		"hlt":             {[]byte{0xf4, 0xff, 0xff}, 64, "hlt", 1},
		"ud2":             {[]byte{0x0f, 0x0b}, 64, "ud2", 2},
		"endbr64":         {[]byte{0xf3, 0x0f, 0x1e, 0xfa, 0xc3}, 64, "endbr64", 4},
		"vmcall":          {[]byte{0x0f, 0x01, 0xc1}, 64, "vmcall", 3},
		"vmmcall":         {[]byte{0x0f, 0x01, 0xd9}, 64, "vmmcall", 3},
		"call, target":    {[]byte{0xe8, 0x0b, 0x00, 0x00, 0x00}, 64, "callq 0xffffffff81000010", 5},
		"64-bit operands": {[]byte{0x48, 0x89, 0xd8}, 64, "mov %rbx,%rax", 3},
		"32-bit mode":     {[]byte{0x89, 0xd8}, 32, "mov %ebx,%eax", 2},
		"16-bit mode":     {[]byte{0x89, 0xd8}, 16, "mov %bx,%ax", 2},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := AMD64(tt.code, pc, tt.mode)
			if err != nil {
				t.Fatal(err)
			}
			if got.Text != tt.want || got.Len != tt.n {
				t.Errorf("%q, %d bytes, want %q, %d", got.Text, got.Len, tt.want, tt.n)
			}
		})
	}
}

func TestARM64(t *testing.T) {
	const pc = 0xffff_8000_8000_0000
	for name, tt := range map[string]struct {
		word uint32
		want string
	}{
		"nop":            {0xd503201f, "nop"},
		"hook":           {0xd4200000 | 0x5744<<5, "brk #0x5744"},
		"svc":            {0xd4000001, "svc #0x0"},
		"hvc":            {0xd4000002 | 7<<5, "hvc #0x7"},
		"smc":            {0xd4000003, "smc #0x0"},
		"zeros":          {0x00000000, "udf #0x0"},
		"register":       {0xaa0103e0, "mov x0, x1"},
		"branch, target": {0x14000004, "b 0xffff800080000010"},
		"branch back":    {0x17fffffe, "b 0xffff80007ffffff8"},
		"condition":      {0x54000040, "b.eq 0xffff800080000008"},
		"page":           {0xb0000000, "adrp x0, 0xffff800080001000"},
		"literal":        {0x58000040, "ldr x0, 0xffff800080000008"},
		"vector":         {0x4ea01c00, "mov v0.16b, v0.16b"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ARM64(binary.LittleEndian.AppendUint32(nil, tt.word), pc)
			if err != nil {
				t.Fatal(err)
			}
			if got.Text != tt.want || got.Len != 4 {
				t.Errorf("%q, %d bytes, want %q, 4", got.Text, got.Len, tt.want)
			}
		})
	}
}

func TestUndecodable(t *testing.T) {
	for name, code := range map[string][]byte{
		"nothing":   nil,
		"cut short": {0x48},
		"prefixes":  {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66},
	} {
		t.Run(name, func(t *testing.T) {
			if i, err := AMD64(code, 0, 64); !errors.Is(err, ErrDecode) {
				t.Errorf("amd64: %+v, %v, want %v", i, err, ErrDecode)
			}
		})
	}
	for _, code := range [][]byte{nil, {0x1f, 0x20, 0x03}, {0xff, 0xff, 0xff, 0xff}} {
		if i, err := ARM64(code, 0); !errors.Is(err, ErrDecode) {
			t.Errorf("arm64 % x: %+v, %v, want %v", code, i, err, ErrDecode)
		}
	}
}

// FuzzDecode feeds both decoders what a guest may have at its PC.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{0xe6, 0xea, 0x90, 0x90, 0x90}, uint64(0xffff_ffff_8100_0000))
	f.Add([]byte{0x0f, 0x1e, 0xfa, 0xf3}, uint64(0))
	f.Add([]byte{0x80, 0xe8, 0x2a, 0xd4}, uint64(1<<63))
	f.Fuzz(func(t *testing.T, code []byte, pc uint64) {
		for _, mode := range []int{16, 32, 64} {
			i, err := AMD64(code, pc, mode)
			if err == nil && (i.Len < 1 || i.Len > MaxLen || i.Len > len(code) || i.Text == "") {
				t.Errorf("% x is %+v in mode %d", code, i, mode)
			}
		}
		if i, err := ARM64(code, pc); err == nil && i.Text == "" {
			t.Errorf("% x is %+v", code, i)
		}
	})
}
