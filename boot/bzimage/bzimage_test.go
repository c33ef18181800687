package bzimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"warder/boot/expand"
	"warder/internal/testkernel"
)

func parse(file []byte) (*File, error) { return Parse(bytes.NewReader(file), int64(len(file))) }

func TestParse(t *testing.T) {
	file := testkernel.BzImage(expand.XZ, testkernel.ELF())
	f, err := parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if f.Protocol != 0x020f || !f.Is64 || f.Method != expand.XZ || f.Version != "6.0.0-test (builder) #1 SMP" {
		t.Errorf("%+v", f)
	}
	// The header ends where the jump at its beginning leads to.
	if want := file[0x1f1:0x268]; !bytes.Equal(f.Header, want) {
		t.Errorf("header of %d bytes, want %d", len(f.Header), len(want))
	}
	var b bytes.Buffer
	for range 2 { // it can be written more than once
		b.Reset()
		if n, err := f.WriteTo(&b); err != nil || n != int64(b.Len()) || !bytes.Equal(b.Bytes(), testkernel.ELF()) {
			t.Errorf("expands to %d bytes, %v", n, err)
		}
	}
}

// TestParseOldSetup has the size of the setup code left at 0, which means 4.
func TestParseOldSetup(t *testing.T) {
	file := testkernel.BzImage("", testkernel.ELF())
	file[offSetupSects] = 0
	f, err := parse(file)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := f.WriteTo(&b); err != nil || !bytes.Equal(b.Bytes(), testkernel.ELF()) {
		t.Errorf("%d bytes, %v", b.Len(), err)
	}
}

func TestParseRefuses(t *testing.T) {
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"no magic":        {func(b []byte) []byte { b[offMagic] = 'x'; return b }, ErrFormat.Error()},
		"no boot flag":    {func(b []byte) []byte { b[offBootFlag] = 0; return b }, ErrFormat.Error()},
		"short":           {func(b []byte) []byte { return b[:600] }, "cut short"},
		"very short":      {func(b []byte) []byte { return b[:500] }, ErrFormat.Error()},
		"payload outside": {func(b []byte) []byte { le.PutUint32(b[offPayloadOffset:], 1<<32-1); return b }, "cut short"},
		"payload long":    {func(b []byte) []byte { le.PutUint32(b[offPayloadLength:], 1<<32-1); return b }, "cut short"},
		"payload empty":   {func(b []byte) []byte { le.PutUint32(b[offPayloadLength:], 0); return b }, "cut short"},
		"old":             {func(b []byte) []byte { le.PutUint16(b[offVersion:], 0x0207); return b }, "2.07"},
		"expands widely":  {func(b []byte) []byte { le.PutUint32(b[len(b)-4:], 1<<31); return b }, "at most"},
	} {
		_, err := parse(c.change(testkernel.BzImage(expand.Zstd, testkernel.ELF())))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v; want it to say %q", name, err, c.want)
		}
	}
}

func TestVersion(t *testing.T) {
	for name, change := range map[string]func([]byte){
		"none":      func(b []byte) { binary.LittleEndian.PutUint16(b[offKernelVersion:], 0) },
		"outside":   func(b []byte) { binary.LittleEndian.PutUint16(b[offKernelVersion:], 0xffff) },
		"no text":   func(b []byte) { b[0x500] = 0x1b },
		"no end":    func(b []byte) { copy(b[0x500:], strings.Repeat("x", 256)) },
		"only zero": func(b []byte) { b[0x500] = 0 },
	} {
		file := testkernel.BzImage(expand.Gzip, testkernel.ELF())
		change(file)
		if f, err := parse(file); err != nil || f.Version != "" {
			t.Errorf("%s: version %q, %v", name, f.Version, err)
		}
	}
}

// TestWriteToDamaged has a payload that expands to less than the file says.
func TestWriteToDamaged(t *testing.T) {
	for _, m := range testkernel.Methods {
		if m == expand.Gzip {
			continue // its length is part of the stream
		}
		file := testkernel.BzImage(m, testkernel.ELF())
		binary.LittleEndian.PutUint32(file[len(file)-4:], uint32(len(testkernel.ELF())+1))
		f, err := parse(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteTo(new(bytes.Buffer)); err == nil {
			t.Errorf("%s: no error", m)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range append(testkernel.Methods, "") {
		f.Add(testkernel.BzImage(m, testkernel.ELF()))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		z, err := parse(file)
		if err != nil {
			return
		}
		if len(z.Header) > headerEnd-HeaderOffset || len(z.Header) < offMagic-HeaderOffset {
			t.Fatalf("header of %d bytes", len(z.Header))
		}
		w := &limited{left: 1 << 20}
		if _, err := z.WriteTo(w); err == nil && z.Method != "" && w.n != z.length {
			t.Fatalf("wrote %d bytes, the file says %d", w.n, z.length)
		}
	})
}

// limited takes a number of bytes.
type limited struct {
	n, left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, errors.New("enough")
	}
	l.n += int64(len(p))
	return len(p), nil
}
