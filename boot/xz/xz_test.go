package xz

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"warder/internal/oracle"
)

// pack compresses data with xz(1).
func pack(t testing.TB, data []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), oracle.Command(t, "xz", "xz-utils"), append([]string{"-c"}, args...)...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("xz %q: %v", args, err)
	}
	return out
}

// machineCode is data in which the filters find much to do, at all distances of
// opcodes from each other.
func machineCode(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = []byte{0xe8, 0xe9, 0x00, 0xff, 0x94, 0x97, 0x90, 0xb0, 0xf0, byte(r.Uint32())}[r.IntN(10)]
	}
	return b
}

func TestReader(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	program = program[:min(len(program), 512<<10)]
	for name, data := range map[string][]byte{
		"empty": nil, "byte": {0xe8}, "text": []byte(strings.Repeat("abc ", 10000)),
		"code": machineCode(100_001), "program": program,
	} {
		for _, args := range [][]string{
			{}, {"--check=none"}, {"--check=crc32"}, {"--check=sha256"},
			{"--block-size=65536"}, {"-T2", "--block-size=65536"},
			{"--check=crc32", "--x86", "--lzma2=preset=0"}, {"--check=crc32", "--arm64", "--lzma2=preset=0"},
			{"--x86", "--arm64", "--lzma2=preset=0"}, {"--x86", "--block-size=10000", "--lzma2=preset=0"},
		} {
			z, err := NewReader(bytes.NewReader(pack(t, data, args...)))
			if err != nil {
				t.Errorf("%s, %q: %v", name, args, err)
				continue
			}
			got, err := io.ReadAll(z)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%s, %q: %d bytes, %v; want %d", name, args, len(got), err, len(data))
			}
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	data := []byte(strings.Repeat("abc ", 10000))
	for name, args := range map[string][]string{"delta": {"--delta", "--lzma2"}, "dictionary": {"--lzma2=dict=256MiB"}} {
		if z, err := NewReader(bytes.NewReader(pack(t, data, args...))); err == nil {
			if _, err = io.ReadAll(z); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	}
	packed := pack(t, data, "--lzma2=dict=64KiB")
	for i := range packed[:len(packed)-28] { // index and footer are not read
		bad := bytes.Clone(packed)
		bad[i] ^= 0x10
		var got bytes.Buffer
		if err := readAll(&got, bad); err == nil && !bytes.Equal(got.Bytes(), data) {
			t.Errorf("byte %d of %d changed: no error", i, len(packed))
		}
		if err := readAll(io.Discard, packed[:i]); !errors.Is(err, ErrFormat) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut to %d of %d bytes: %v", i, len(packed), err)
		}
	}
}

func readAll(w io.Writer, packed []byte) error {
	z, err := NewReader(bytes.NewReader(packed))
	if err != nil {
		return err
	}
	_, err = io.Copy(w, z)
	return err
}

func FuzzReader(f *testing.F) {
	for _, args := range [][]string{{}, {"--x86", "--lzma2=preset=0"}, {"--arm64", "--lzma2=preset=0"}} {
		f.Add(pack(f, machineCode(500), args...))
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		z, err := NewReader(bytes.NewReader(packed))
		if err != nil {
			return
		}
		if n, err := io.Copy(io.Discard, io.LimitReader(z, 1<<20)); err != nil && n > 1<<20 {
			t.Fatal(n, err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	data := machineCode(1 << 20)
	packed := pack(b, data, "--x86", "--lzma2=preset=6")
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := readAll(io.Discard, packed); err != nil {
			b.Fatal(err)
		}
	}
}
