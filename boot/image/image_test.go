package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"warder/boot/expand"
	"warder/internal/testkernel"
)

func parse(file []byte) (*File, error) {
	return Parse(bytes.NewReader(file), int64(len(file)), func(_, n uint64) []byte { return make([]byte, n) })
}

func TestParse(t *testing.T) {
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		change       func([]byte)
		offset, size uint64
		err          string
	}{
		"usual":          {func([]byte) {}, 0, 0x2000, ""},
		"text offset":    {func(b []byte) { le.PutUint64(b[8:], 0x80000) }, 0x80000, 0x2000, ""},
		"old":            {func(b []byte) { le.PutUint64(b[8:], 7); le.PutUint64(b[16:], 0) }, legacyOffset, legacySize, ""},
		"says too small": {func(b []byte) { le.PutUint64(b[16:], 1) }, 0, 0x1000, ""},
		"big-endian":     {func(b []byte) { b[24] |= 1 }, 0, 0, "big-endian"},
		"huge":           {func(b []byte) { le.PutUint64(b[16:], 1<<63) }, 0, 0, "at most"},
		"far offset":     {func(b []byte) { le.PutUint64(b[8:], 2<<20) }, 0, 0, "text offset"},
		"odd offset":     {func(b []byte) { le.PutUint64(b[8:], 100) }, 0, 0, "text offset"},
		"no magic":       {func(b []byte) { b[56] = 0 }, 0, 0, ErrFormat.Error()},
	} {
		file := testkernel.Image()
		c.change(file)
		f, err := parse(file)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error is %v; want it to say %q", name, err, c.err)
			}
			continue
		}
		if err != nil || f.TextOffset != c.offset || f.Size != c.size || !bytes.Equal(f.Data, file) {
			t.Errorf("%s: %v, %+v", name, err, f)
		}
	}
	if _, err := parse(testkernel.Image()[:63]); !errors.Is(err, ErrFormat) {
		t.Errorf("short: %v", err)
	}
}

func TestParseZBoot(t *testing.T) {
	for name, c := range map[string]struct {
		change func([]byte)
		err    string
	}{
		"usual":         {func([]byte) {}, ""},
		"no magic":      {func(b []byte) { b[4] = 'x' }, ErrFormat.Error()},
		"outside":       {func(b []byte) { b[11] = 0xff }, "cut short"},
		"too long":      {func(b []byte) { b[15] = 0xff }, "cut short"},
		"empty":         {func(b []byte) { clear(b[12:16]) }, "cut short"},
		"unknown":       {func(b []byte) { copy(b[24:], "brotli\x00") }, `"brotli"`},
		"nameless":      {func(b []byte) { clear(b[24:56]) }, `""`},
		"another codec": {func(b []byte) { copy(b[24:], "gzip\x00") }, "gzip"},
	} {
		file := testkernel.ZBoot(expand.Zstd, testkernel.Image())
		c.change(file)
		var b bytes.Buffer
		z, err := ParseZBoot(bytes.NewReader(file), int64(len(file)))
		if err == nil {
			_, err = z.WriteTo(&b)
		}
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error is %v; want it to say %q", name, err, c.err)
			}
		} else if err != nil || !bytes.Equal(b.Bytes(), testkernel.Image()) {
			t.Errorf("%s: %v, %d bytes", name, err, b.Len())
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(testkernel.Image())
	f.Fuzz(func(t *testing.T, file []byte) {
		k, err := parse(file)
		if err == nil && (k.Size < uint64(len(k.Data)) || k.Size > maxSize || k.TextOffset >= 2<<20) {
			t.Fatalf("offset %#x, size %#x, %d bytes", k.TextOffset, k.Size, len(k.Data))
		}
	})
}

func FuzzParseZBoot(f *testing.F) {
	f.Add(testkernel.ZBoot(expand.Gzip, testkernel.Image()))
	f.Fuzz(func(t *testing.T, file []byte) {
		z, err := ParseZBoot(bytes.NewReader(file), int64(len(file)))
		if err == nil && z.payload.Size() > int64(len(file)) {
			t.Fatalf("payload of %d bytes in a file of %d", z.payload.Size(), len(file))
		}
	})
}
