package boot

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/boot/expand"
	"warder/internal/testkernel"
)

// formats is each way in which the two test kernels can be packed.
func formats() map[string]struct {
	file   []byte
	format Format
	method expand.Method
	arch   string
} {
	type packed = struct {
		file   []byte
		format Format
		method expand.Method
		arch   string
	}
	vmlinux, image := testkernel.ELF(), testkernel.Image()
	all := map[string]packed{
		"vmlinux":            {vmlinux, ELF, "", "amd64"},
		"Image":              {image, Image, "", "arm64"},
		"bzImage not packed": {testkernel.BzImage("", vmlinux), BzImage, "", "amd64"},
	}
	for _, m := range testkernel.Methods {
		name := string(m)
		all["bzImage "+name] = packed{testkernel.BzImage(m, vmlinux), BzImage, m, "amd64"}
		all["zboot "+name] = packed{testkernel.ZBoot(m, image), ZBoot, m, "arm64"}
		all["Image."+name] = packed{testkernel.Compress(m, image), Image, m, "arm64"}
		all["vmlinux."+name] = packed{testkernel.Compress(m, vmlinux), ELF, m, "amd64"}
	}
	return all
}

func TestParse(t *testing.T) {
	for name, f := range formats() {
		t.Run(name, func(t *testing.T) {
			k, err := Parse(bytes.NewReader(f.file), int64(len(f.file)))
			if err != nil {
				t.Fatal(err)
			}
			if k.Arch != f.arch || k.Format != f.format || k.Compression != string(f.method) {
				t.Errorf("got %s, %s, %q; want %s, %s, %q", k.Arch, k.Format, k.Compression, f.arch, f.format, f.method)
			}
			if got := k.Version(); got != testkernel.Banner {
				t.Errorf("version %q, want %q", got, testkernel.Banner)
			}
			if (len(k.SetupHeader) > 0) != (f.format == BzImage) {
				t.Errorf("setup header of %d bytes", len(k.SetupHeader))
			}
			if f.arch == "arm64" {
				if len(k.Segments) != 1 || !bytes.Equal(k.Segments[0].Data, testkernel.Image()) || k.Size != 0x2000 {
					t.Errorf("%d segments, size %#x", len(k.Segments), k.Size)
				}
				return
			}
			if k.Entry != testkernel.Entry || k.PVHEntry != testkernel.PVHEntry || k.Size != testkernel.MemSize {
				t.Errorf("entry %#x, PVH %#x, size %#x", k.Entry, k.PVHEntry, k.Size)
			}
			if len(k.Segments) != 1 || k.Segments[0].Addr != testkernel.LoadAddr || len(k.Segments[0].Data) != 0x1000 {
				t.Errorf("segments %v", k.Segments)
			}
		})
	}
}

func TestUnwrap(t *testing.T) {
	for name, f := range formats() {
		var b bytes.Buffer
		format, err := Unwrap(&b, bytes.NewReader(f.file), int64(len(f.file)))
		want, wantFormat := testkernel.ELF(), ELF
		if f.arch == "arm64" {
			want, wantFormat = testkernel.Image(), Image
		}
		if err != nil || format != wantFormat || !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%s: %s of %d bytes, %v; want %s of %d", name, format, b.Len(), err, wantFormat, len(want))
		}
	}
}

// TestParseCut parses each kernel with its end missing, which must not pass for
// a kernel.
func TestParseCut(t *testing.T) {
	for name, f := range formats() {
		if name == "Image" {
			continue // says how much memory it needs, not how long it is
		}
		for _, n := range []int{0, 1, 63, 64, 511, 512, 0x1f1, 0x250, 0x600, len(f.file) / 2, len(f.file) - 64} {
			if n >= len(f.file) {
				continue
			}
			if k, err := Parse(bytes.NewReader(f.file[:n]), int64(n)); err == nil {
				t.Errorf("%s cut to %d of %d bytes is a kernel: %s for %s", name, n, len(f.file), k.Format, k.Arch)
			}
		}
	}
}

func TestCache(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "vmlinuz")
	cacheDir := filepath.Join(dir, "cache")
	if err := os.WriteFile(file, testkernel.BzImage(expand.Zstd, testkernel.ELF()), 0o644); err != nil {
		t.Fatal(err)
	}
	want, err := Open(file, "")
	if err != nil {
		t.Fatal(err)
	}
	open := func(when string) {
		t.Helper()
		got, err := Open(file, cacheDir)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s:\n%s", when, d)
		}
	}
	entry := func() string {
		t.Helper()
		all, err := filepath.Glob(filepath.Join(cacheDir, "*"))
		if err != nil || len(all) != 1 {
			t.Fatalf("cache has %q, want one file", all)
		}
		return all[0]
	}
	open("first time")
	path := entry()
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	open("from the cache")
	if after, err := os.Stat(entry()); err != nil || !os.SameFile(before, after) {
		t.Errorf("expanded again: %v", err)
	}
	for when, damage := range map[string]func([]byte) []byte{
		"damaged": func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
		"emptied": func([]byte) []byte { return nil },
	} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, damage(b), 0o644); err != nil {
			t.Fatal(err)
		}
		open(when)
		open("after it was " + when)
	}
}

// TestCacheUnusable opens a kernel although nothing can be kept of it.
func TestCacheUnusable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "vmlinuz")
	if err := os.WriteFile(file, testkernel.BzImage(expand.Gzip, testkernel.ELF()), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, filepath.Join(file, "no directory")); err != nil {
		t.Error(err)
	}
}

// TestCacheKeepsNothing fails to expand, which must not leave anything behind.
func TestCacheKeepsNothing(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "vmlinuz")
	damaged := testkernel.BzImage(expand.XZ, bytes.Repeat(testkernel.ELF(), 50))
	damaged[len(damaged)-200] ^= 0xff
	if err := os.WriteFile(file, damaged, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, filepath.Join(dir, "cache")); err == nil {
		t.Error("a damaged kernel is opened")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "cache", "*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestIdentify(t *testing.T) {
	disk := make([]byte, 1<<20)
	copy(disk[510:], "\x55\xaa")
	ext4 := make([]byte, 1<<20)
	copy(ext4[1080:], "\x53\xef")
	iso := make([]byte, 1<<20)
	copy(iso[0x8001:], "CD001")
	late := make([]byte, 1<<20)
	late[1<<19] = 1
	pe := make([]byte, 1024)
	copy(pe, "MZ")
	pe[60] = 0x80
	copy(pe[0x80:], "PE\x00\x00\x64\x86")
	pe[0x80+92] = 10 // IMAGE_SUBSYSTEM_EFI_APPLICATION
	uki := append(bytes.Clone(pe), ".linux\x00\x00"...)
	tar := make([]byte, 1024)
	copy(tar[257:], "ustar\x0000")
	other := func(machine, typ uint16) []byte {
		b := testkernel.ELF()
		b[16], b[18] = byte(typ), byte(machine)
		return b
	}
	elf32 := testkernel.ELF()
	elf32[4] = 1
	big := testkernel.ELF()
	big[5] = 2
	bigImage := testkernel.Image()
	bigImage[24] |= 1
	bz32 := testkernel.BzImage(expand.Gzip, testkernel.ELF())
	bz32[0x236] = 0
	old := testkernel.BzImage(expand.Gzip, testkernel.ELF())
	old[0x206] = 4
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"empty":           {nil, "an empty file"},
		"zeros":           {make([]byte, 1<<20), "a file full of zeros"},
		"late data":       {late, "begins with zeros"},
		"script":          {[]byte("#!/bin/sh\necho hi\n"), "a script"},
		"text":            {[]byte("CONFIG_64BIT=y\n# déjà vu\n"), "a text file"},
		"noise":           {bytes.Repeat([]byte{0x81, 0x02, 0xfe}, 300), "an unknown kind"},
		"gzip of text":    {testkernel.Compress(expand.Gzip, []byte("hello\n")), "gzip-compressed data that holds a text file"},
		"xz of a module":  {testkernel.Compress(expand.XZ, other(62, 1)), "kernel module"},
		"deb":             {[]byte("!<arch>\ndebian-binary   1"), "kernel pull --deb"},
		"rpm":             {[]byte("\xed\xab\xee\xdb\x03\x00"), "RPM"},
		"cpio":            {[]byte("070701000000"), "initramfs"},
		"gzip of cpio":    {testkernel.Compress(expand.Gzip, []byte("070701000000")), "initramfs"},
		"tar":             {tar, "tar archive"},
		"disk":            {disk, "boot sector"},
		"ext4":            {ext4, "ext4"},
		"iso":             {iso, "ISO 9660"},
		"qcow2":           {[]byte("QFI\xfb\x00\x00\x00\x03"), "qcow2"},
		"EFI program":     {pe, "EFI application"},
		"unified image":   {uki, "objcopy"},
		"DOS program":     {[]byte("MZ program"), "DOS program"},
		"arm64 ELF":       {other(183, 2), "arm64 ELF file: give"},
		"riscv ELF":       {other(243, 2), "another machine (EM_RISCV)"},
		"object file":     {other(62, 1), "object file or kernel module"},
		"core dump":       {other(62, 4), "ET_CORE"},
		"32-bit ELF":      {elf32, "32-bit ELF"},
		"big-endian ELF":  {big, "big-endian"},
		"32-bit bzImage":  {bz32, "32-bit kernel"},
		"ancient bzImage": {old, "boot protocol 2.04"},
		"big Image":       {bigImage, "big-endian arm64"},
		"LZO":             {[]byte("\x89LZO\x00\r\n\x1a\nxxxx"), "unsupported compression: lzo"},
		"bzImage of Image": {
			testkernel.BzImage(expand.Gzip, testkernel.Image()), "bzImage holds no usable kernel",
		},
		"zboot of ELF": {testkernel.ZBoot(expand.Gzip, testkernel.ELF()), "zboot holds no usable kernel"},
	} {
		_, err := Parse(bytes.NewReader(c.file), int64(len(c.file)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v; want it to say %q", name, err, c.want)
		}
	}
}

func TestOpenNoFile(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "missing"), ""); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	_, err := Open(t.TempDir(), "")
	if e, ok := errors.AsType[*NotKernelError](err); !ok || e.Is != "a directory" {
		t.Errorf("directory: %v", err)
	}
}

// TestParseBomb has a file expand without end.
func TestParseBomb(t *testing.T) {
	if testing.Short() {
		t.Skip("expands as much as a kernel may")
	}
	zeros := make([]byte, 1<<20)
	var b bytes.Buffer
	head := testkernel.Image()
	b.Write(testkernel.Compress(expand.Zstd, head)) // the first frame
	frame := testkernel.Compress(expand.Zstd, zeros)
	for range maxExpanded >> 20 {
		b.Write(frame)
	}
	if _, err := Unwrap(io.Discard, bytes.NewReader(b.Bytes()), int64(b.Len())); !errors.Is(err, expand.ErrTooLarge) {
		t.Errorf("error is %v, want %v", err, expand.ErrTooLarge)
	}
}

func FuzzParse(f *testing.F) {
	for _, k := range formats() {
		f.Add(k.file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		if len(file) > 64<<10 {
			t.Skip() // the fuzzer gains nothing from long ones
		}
		k, err := Parse(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			return
		}
		end := uint64(0)
		for _, s := range k.Segments {
			if s.Addr < end {
				t.Fatalf("segment at %#x begins before %#x", s.Addr, end)
			}
			end = s.Addr + uint64(len(s.Data))
			if end-k.Segments[0].Addr > k.Size {
				t.Fatalf("segment up to %#x, size %#x", end, k.Size)
			}
		}
		k.Version()
	})
}

// A kernel goes to where it is told to, and nothing of it to anywhere else.
func TestOpenInto(t *testing.T) {
	for name, file := range map[string][]byte{
		"vmlinux": testkernel.ELF(), "bzImage": testkernel.BzImage(expand.Zstd, testkernel.ELF()), "Image": testkernel.Image(),
	} {
		path := filepath.Join(t.TempDir(), "kernel")
		if err := os.WriteFile(path, file, 0o644); err != nil {
			t.Fatal(err)
		}
		want, err := Open(path, "")
		if err != nil {
			t.Fatal(err)
		}
		places := map[uint64][]byte{}
		got, err := OpenInto(path, "", func(addr, n uint64) []byte {
			places[addr] = make([]byte, n)
			return places[addr]
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(got.Segments) != len(want.Segments) || len(got.Segments) == 0 {
			t.Fatalf("%s: %d segments", name, len(got.Segments))
		}
		for i, s := range got.Segments {
			if place := places[s.Addr]; len(place) == 0 || &place[0] != &s.Data[0] || !bytes.Equal(s.Data, want.Segments[i].Data) {
				t.Errorf("%s: the segment at %#x is not where it was told to be, or another", name, s.Addr)
			}
		}
	}
}

// TestHasBuiltin finds names as strings of their own in any segment.
func TestHasBuiltin(t *testing.T) {
	k := &Kernel{Segments: []Segment{{Data: []byte("\x00erofs\x00nd_pmem_not")}, {Data: []byte("not_virtio_pmem\x00")}}}
	for name, want := range map[string]bool{
		"erofs": true, "virtio_pmem": true, // which the end of a longer string may hold, as linkers merge them
		"nd_pmem": false, "ero": false, "ext4": false,
	} {
		if got := k.HasBuiltin(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
