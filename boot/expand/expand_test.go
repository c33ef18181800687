package expand_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os/exec"
	"strings"
	"testing"

	"warder/boot/expand"
	"warder/internal/oracle"
	"warder/internal/testkernel"
)

// bzip2OfHello is what bzip2(1) writes for "hello\n".
const bzip2OfHello = "QlpoOTFBWSZTWcHAgOIAAAFBAAAQAkSgADDNAMNGKZcXckU4UJDBwIDi"

func TestCopy(t *testing.T) {
	data := []byte(strings.Repeat("the quick brown fox ", 1000))
	for _, m := range testkernel.Methods {
		packed := testkernel.Compress(m, data)
		if got := expand.Detect(packed); got != m {
			t.Errorf("%s: detected as %q", m, got)
		}
		var b bytes.Buffer
		if n, err := expand.Copy(&b, m, bytes.NewReader(packed), int64(len(data))); err != nil || n != int64(len(data)) || !bytes.Equal(b.Bytes(), data) {
			t.Errorf("%s: %d bytes, %v", m, n, err)
		}
		if _, err := expand.Copy(io.Discard, m, bytes.NewReader(packed), int64(len(data))-1); !errors.Is(err, expand.ErrTooLarge) {
			t.Errorf("%s with too low a limit: %v", m, err)
		}
		if _, err := expand.Copy(io.Discard, m, bytes.NewReader(packed[:len(packed)/2]), int64(len(data))); err == nil {
			t.Errorf("%s cut short: no error", m)
		}
	}
}

// TestBuildCommands reads what the kernel's build makes with its own commands
// (scripts/Makefile.lib, scripts/xz_wrap.sh), each followed by the length as in a
// bzImage.
func TestBuildCommands(t *testing.T) {
	data := bytes.Repeat([]byte("\xe8\x10\x20\x00\x00 some text of a kernel, "), 20000)
	for _, c := range []struct {
		method expand.Method
		pkg    string
		args   []string
	}{
		{expand.Gzip, "gzip", []string{"gzip", "-n", "-f", "-9"}},
		{expand.Bzip2, "bzip2", []string{"bzip2", "-9"}},
		{expand.LZMA, "xz-utils", []string{"lzma", "-9"}},
		{expand.XZ, "xz-utils", []string{"xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB"}},
		{expand.LZ4, "lz4", []string{"lz4", "-l", "-9", "-", "-"}},
		{expand.Zstd, "zstd", []string{"zstd", "-22", "--ultra"}},
	} {
		cmd := exec.CommandContext(t.Context(), oracle.Command(t, c.args[0], c.pkg), c.args[1:]...)
		cmd.Stdin = bytes.NewReader(data)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatalf("%q: %v", c.args, err)
		}
		if m := expand.Detect(packed); m != c.method {
			t.Errorf("%q: detected as %q", c.args, m)
		}
		packed = binary.LittleEndian.AppendUint32(packed, uint32(len(data)))
		z, err := expand.NewReader(c.method, bytes.NewReader(packed))
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		got := make([]byte, len(data))
		if _, err := io.ReadFull(z, got); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%q: %v", c.args, err)
		}
		z.Close()
	}
}

func TestBzip2(t *testing.T) {
	packed, err := base64.StdEncoding.DecodeString(bzip2OfHello)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := expand.Copy(&b, expand.Detect(packed), bytes.NewReader(packed), 100); err != nil || b.String() != "hello\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestDetectNothing(t *testing.T) {
	for _, s := range []string{"", "\x1f", "\x7fELF", "MZ", "\xfd7zX"} {
		if m := expand.Detect([]byte(s)); m != "" {
			t.Errorf("%q detected as %s", s, m)
		}
	}
	if _, err := expand.NewReader("", strings.NewReader("x")); !errors.Is(err, expand.ErrMethod) {
		t.Errorf("no method: %v", err)
	}
}

// TestDictionary has streams ask for 4 GiB of memory.
func TestDictionary(t *testing.T) {
	packed := testkernel.Compress(expand.XZ, []byte("hello"))
	i := bytes.Index(packed, []byte{0x21, 0x01})
	packed[i+2] = 40
	header := packed[12 : 12+(int(packed[12])+1)*4]
	binary.LittleEndian.PutUint32(header[len(header)-4:], crc32.ChecksumIEEE(header[:len(header)-4]))
	if _, err := expand.NewReader(expand.XZ, bytes.NewReader(packed)); err == nil || !strings.Contains(err.Error(), "too much memory") {
		t.Errorf("xz: %v", err)
	}
	packed = testkernel.Compress(expand.LZMA, []byte("hello"))
	copy(packed[1:], "\xff\xff\xff\xff")
	if _, err := expand.Copy(io.Discard, expand.LZMA, bytes.NewReader(packed), 100); err == nil || !strings.Contains(err.Error(), "dictionary") {
		t.Errorf("lzma: %v", err)
	}
}
