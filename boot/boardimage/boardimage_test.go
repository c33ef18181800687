package boardimage

import (
	"bytes"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"

	"warder/boot/kernelpkg"
	"warder/internal/oracle"
	"warder/internal/testkernel"
)

// sample is the configuration of an image whose parts are a few bytes each.
func sample(t *testing.T, arch string, layout Layout) Config {
	t.Helper()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	host := &kernelpkg.Package{
		Arch: arch, Release: "6.0-host", Dir: filepath.Join(dir, "host"), VmlinuzPath: file("host/vmlinuz", "the machine's kernel"),
		Modules:     []kernelpkg.Module{{Name: "b", Path: file("host/modules/b.ko", "module b")}, {Name: "a", Path: file("host/modules/a.ko", "module a")}},
		DeviceTrees: filepath.Dir(file("host/dtb/bcm2711-rpi-4-b.dtb", "a board")),
	}
	guest := &kernelpkg.Package{
		Arch: arch, Dir: filepath.Join(dir, "digest"), KernelPath: file("digest/vmlinux", "the guests' kernel"),
		VmlinuzPath: file("digest/vmlinuz", "the same, packed"),
	}
	file("digest/kernel.json", "{}")
	return Config{
		Arch: arch, Layout: layout, Warder: file("warder", program(arch)), Host: host, Guest: guest,
		HostConfig: []byte("vms: []\n"), Cmdline: "quiet", Built: time.Unix(1e9, 0), Stub: file("stub", string(stub())),
		Firmware: filepath.Dir(file("firmware/start4.elf", "firmware")),
	}
}

// program is a static program, or with more program headers any other.
func program(arch string, headers ...elf.Prog64) string {
	const ehdr, phdr = 64, 56
	return string(testkernel.Concat(elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(machines[arch]), Version: 1,
		Phoff: ehdr, Ehsize: ehdr, Phentsize: phdr, Phnum: uint16(len(headers)),
	}, headers))
}

// unpack reads an initial RAM disk: contents, or the targets of links.
func unpack(t *testing.T, packed []byte) map[string]string {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(plain)))
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, r := range records {
		dir := filepath.Dir(r.Name)
		if _, ok := files[dir]; dir != "." && !ok {
			t.Errorf("%s comes before its directory", r.Name)
		}
		content := make([]byte, r.FileSize)
		if _, err := io.ReadFull(io.NewSectionReader(r, 0, int64(r.FileSize)), content); err != nil {
			t.Fatalf("%s: %v", r.Name, err)
		}
		files[r.Name] = string(content)
	}
	return files
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPlain(t *testing.T) {
	c, dir := sample(t, "arm64", ""), filepath.Join(t.TempDir(), "out")
	if err := Write(dir, c); err != nil {
		t.Fatal(err)
	}
	if got := string(read(t, dir, "vmlinuz")); got != "the machine's kernel" {
		t.Errorf("kernel %q", got)
	}
	if got := string(read(t, dir, ConfigFile)); got != "vms: []\n" {
		t.Errorf("configuration %q", got)
	}
	if got := string(read(t, dir, "cmdline.txt")); got != "loglevel=4 panic=10 quiet\n" {
		t.Errorf("command line %q", got)
	}
	packed := read(t, dir, "initrd.img")
	files := unpack(t, packed)
	for name, want := range map[string]string{
		"init": program("arm64"), "bin/warder": "/init", "lib/modules/000-b.ko": "module b", "lib/modules/001-a.ko": "module a",
		"etc/warder/host.yaml":                              "vms: []\n",
		"var/cache/warder/kernels/arm64/digest/vmlinux":     "the guests' kernel",
		"var/cache/warder/kernels/arm64/digest/vmlinuz":     "vmlinux",
		"var/cache/warder/kernels/arm64/digest/kernel.json": "{}",
		"dev": "", "proc": "", "sys": "", "run": "", "tmp": "",
	} {
		if got, ok := files[name]; !ok || got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var s Settings
	if err := json.Unmarshal([]byte(files["etc/warder/board.json"]), &s); err != nil {
		t.Fatal(err)
	}
	want := Settings{Hostname: "warder", Modules: []string{"/lib/modules/000-b.ko", "/lib/modules/001-a.ko"}, Built: time.Unix(1e9, 0).UTC()}
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	again := filepath.Join(t.TempDir(), "again")
	if err := Write(again, c); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(packed, read(t, again, "initrd.img")) {
		t.Error("the same input gave other bytes")
	}
}

func TestRaspberryPi(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, sample(t, "arm64", RaspberryPi)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"kernel8.img": "the machine's kernel", "bcm2711-rpi-4-b.dtb": "a board", "start4.elf": "firmware",
		"cmdline.txt": "console=tty1 console=serial0,115200 loglevel=4 panic=10 quiet\n",
	} {
		if got := string(read(t, dir, name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	// What the firmware is told to load is there.
	for line := range strings.Lines(string(read(t, dir, "config.txt"))) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "kernel="); ok {
			read(t, dir, name)
		}
		if f := strings.Fields(line); len(f) == 3 && f[0] == "initramfs" {
			read(t, dir, f[1])
		}
	}
	if err := Write(dir, sample(t, "amd64", RaspberryPi)); err == nil {
		t.Error("an image for a Raspberry Pi of amd64")
	}
	c := sample(t, "arm64", RaspberryPi)
	c.Host.DeviceTrees = ""
	if err := Write(dir, c); err == nil || !strings.Contains(err.Error(), "6.0-host") {
		t.Errorf("without device trees: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	for name, change := range map[string]func(c *Config){
		"no kernel":             func(c *Config) { c.Host = nil },
		"kernel of another":     func(c *Config) { c.Guest.Arch = "amd64" },
		"unknown layout":        func(c *Config) { c.Layout = "floppy" },
		"binary of another":     func(c *Config) { c.Warder = written(t, program("amd64")) },
		"binary with libraries": func(c *Config) { c.Warder = written(t, program("arm64", elf.Prog64{Type: uint32(elf.PT_INTERP)})) },
		"no such binary":        func(c *Config) { c.Warder = "/nonexistent" },
		"stub that is no stub":  func(c *Config) { c.Layout, c.Stub = EFI, c.Warder },
		"stub that is not here": func(c *Config) { c.Layout, c.Stub = EFI, "" },
	} {
		c := sample(t, "arm64", Plain)
		change(&c)
		if err := Write(t.TempDir(), c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func written(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// stub is a PE program of one section, with room for five more.
func stub() []byte {
	const lfanew, headers = 0x40, 0x200
	b := make([]byte, headers, 2*headers)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[0x3c:], lfanew)
	h := append([]byte(nil), "PE\x00\x00"...)
	for _, v := range []any{
		pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_ARM64, NumberOfSections: 1, SizeOfOptionalHeader: 112},
		struct {
			pe.OptionalHeader64
		}{}.OptionalHeader64,
	} {
		h, _ = binary.Append(h, binary.LittleEndian, v)
	}
	h = h[:4+coffSize+112]
	opt := h[4+coffSize:]
	binary.LittleEndian.PutUint16(opt, 0x20b)
	binary.LittleEndian.PutUint32(opt[32:], 0x1000)
	binary.LittleEndian.PutUint32(opt[36:], 0x200)
	binary.LittleEndian.PutUint32(opt[sizeOfImage:], 0x2000)
	binary.LittleEndian.PutUint32(opt[60:], headers)
	binary.LittleEndian.PutUint32(opt[checkSum:], 0xbad)
	h, _ = binary.Append(h, binary.LittleEndian, pe.SectionHeader32{
		Name: [8]uint8{'.', 't', 'e', 'x', 't'}, VirtualSize: 4, VirtualAddress: 0x1000, SizeOfRawData: headers, PointerToRawData: headers,
	})
	copy(b[lfanew:], h)
	return append(b, make([]byte, headers)...)
}

func TestEFI(t *testing.T) {
	for arch, name := range map[string]string{"amd64": "BOOTX64.EFI", "arm64": "BOOTAA64.EFI"} {
		dir := t.TempDir()
		if err := Write(dir, sample(t, arch, EFI)); err != nil {
			t.Fatal(err)
		}
		program := read(t, dir, "EFI/BOOT", name)
		f, err := pe.NewFile(bytes.NewReader(program))
		if err != nil {
			t.Fatal(err)
		}
		end := uint32(0)
		for _, s := range f.Sections {
			if s.VirtualAddress < end || s.VirtualAddress%0x1000 != 0 || s.Offset%0x200 != 0 {
				t.Errorf("%s: at %#x, behind one that ends at %#x; %#x of the file", s.Name, s.VirtualAddress, end, s.Offset)
			}
			end = s.VirtualAddress + s.VirtualSize
		}
		if o := f.OptionalHeader.(*pe.OptionalHeader64); o.SizeOfImage < end || o.SizeOfImage%0x1000 != 0 || o.CheckSum != 0 {
			t.Errorf("image of %#x bytes, its sections end at %#x, sum %#x", o.SizeOfImage, end, o.CheckSum)
		}
		content := func(name string) []byte {
			s := f.Section(name)
			if s == nil {
				t.Fatalf("no section %s", name)
			}
			b, err := s.Data()
			if err != nil {
				t.Fatal(err)
			}
			return b[:s.VirtualSize]
		}
		if got := string(content(".linux")); got != "the machine's kernel" {
			t.Errorf("kernel %q", got)
		}
		if got := string(content(".cmdline")); !strings.HasSuffix(got, "panic=10 quiet") {
			t.Errorf("command line %q", got)
		}
		var s Settings
		if err := json.Unmarshal([]byte(unpack(t, content(".initrd"))["etc/warder/board.json"]), &s); err != nil || s.Volume != Volume {
			t.Errorf("settings %+v, %v", s, err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*.part")); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

// TestDisk holds a disk's partition and file system against mtools.
func TestDisk(t *testing.T) {
	mtype := oracle.Command(t, "mtype", "mtools")
	dir := t.TempDir()
	c := sample(t, "amd64", EFI)
	if err := Write(dir, c); err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk")
	if err := WriteDisk(disk, dir, EFI, c.Built); err != nil {
		t.Fatal(err)
	}
	b := read(t, disk)
	if b[510] != 0x55 || b[511] != 0xaa || b[450] != 0xef {
		t.Errorf("boot record % x, partition of type %#x", b[510:512], b[450])
	}
	if start, size := binary.LittleEndian.Uint32(b[454:]), binary.LittleEndian.Uint32(b[458:]); int(start+size)*512 != len(b) {
		t.Errorf("%d sectors from %d of a disk of %d bytes", size, start, len(b))
	} else if out, err := exec.CommandContext(t.Context(), mtype, "-i", fmt.Sprintf("%s@@%d", disk, start*512), "::warder/host.yaml").CombinedOutput(); err != nil || string(out) != "vms: []\n" {
		t.Errorf("configuration %q, %v", out, err)
	}
	if err := WriteDisk(disk, dir, Plain, c.Built); err == nil {
		t.Error("a disk without a boot loader")
	}
}

func TestNoRoomForSections(t *testing.T) {
	many := make([]section, 9)
	if _, err := addSections(stub(), many...); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("nine sections: %v", err)
	}
	if _, err := addSections(stub(), section{name: ".toolonganame"}); err == nil {
		t.Error("a name of more than eight bytes")
	}
}
