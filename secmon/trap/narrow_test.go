package trap_test

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/boot/kernelpkg"
	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/secmon/event"
	"warder/secmon/syscalls"
	"warder/secmon/trap"
	"warder/vmm"
)

// narrowPath is what the program of 32 bits opens, where narrowBase has it.
const (
	narrowPath = "/tmp/narrow file"
	narrowBase = 0x10000
)

// narrowCode makes the calls of TestCallsOf32Bits and ends with status 0. A 64-bit
// offset is two parameters, on arm from an even register on.
func narrowCode(path uint32) []byte {
	const low, high, none, here = 2, 1, 0xffff_ffff, -100 & 0xffff_ffff
	if runtime.GOARCH == "arm64" {
		return bytes.Join([][]byte{
			armCall(322, here, path, 0x80000),
			armCall(181, none, path, 4, 0, low, high),
			armCall(192, 0, 4096, 1, 0x22, none, 0),
			armCall(199),
			armCall(248, 0),
		}, nil)
	}
	return bytes.Join([][]byte{
		// The stack has the kernel's own way in, AT_SYSINFO, among what follows the
		// arguments and the environment.
		{0x89, 0xe6, 0xad},             // mov %esp, %esi; lods
		{0xad, 0x85, 0xc0, 0x75, 0xfb}, // lods until 0, twice
		{0xad, 0x85, 0xc0, 0x75, 0xfb},
		{0xad, 0x89, 0xc3, 0xad, 0x83, 0xfb, 32, 0x75, 0xf7}, // lods; mov %eax, %ebx; lods; until %ebx is 32
		{0x50},                                             // push %eax
		i386Call(295, here, path, 0x80000),                 // openat
		i386Call(181, none, path, 4, low, high),            // pwrite64
		i386Call(192, 0, 4096, 1, 0x22, none, 0),           // mmap2
		{0x58, 0x89, 0xc1, 0xb8, 199, 0, 0, 0, 0xff, 0xd1}, // pop; mov $199, %eax; call: getuid32
		i386Call(252, 0),                                   // exit_group
	}, nil)
}

// i386Call is a call by INT 0x80.
func i386Call(number uint32, args ...uint32) []byte {
	var c []byte
	for i, a := range args {
		c = binary.LittleEndian.AppendUint32(append(c, 0xb8+[]byte{3, 1, 2, 6, 7, 5}[i]), a)
	}
	c = binary.LittleEndian.AppendUint32(append(c, 0xb8), number)
	return append(c, 0xcd, 0x80)
}

// armCall is a call by SVC of A32 code.
func armCall(number uint32, args ...uint32) (c []byte) {
	set := func(register, v uint32) {
		const movw, movt = 0xe3000000, 0xe3400000
		for i, op := range []uint32{movw, movt} {
			half := v >> (16 * i) & 0xffff
			c = binary.LittleEndian.AppendUint32(c, op|half>>12<<16|register<<12|half&0xfff)
		}
	}
	for i, a := range args {
		set(uint32(i), a)
	}
	set(7, number)
	return binary.LittleEndian.AppendUint32(c, 0xef000000)
}

// narrowProgram is an ELF file of 32 bits: its headers, the path, the code.
func narrowProgram() []byte {
	var h elf.Header32
	var p elf.Prog32
	machine := map[string]elf.Machine{"amd64": elf.EM_386, "arm64": elf.EM_ARM}[runtime.GOARCH]
	headers := uint32(binary.Size(h) + binary.Size(p))
	entry := (headers + uint32(len(narrowPath)) + 4) &^ 3
	code := narrowCode(narrowBase + headers)
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS32), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	h.Type, h.Machine, h.Version, h.Entry = uint16(elf.ET_EXEC), uint16(machine), uint32(elf.EV_CURRENT), narrowBase+entry
	h.Phoff, h.Ehsize, h.Phentsize, h.Phnum = uint32(binary.Size(h)), uint16(binary.Size(h)), uint16(binary.Size(p)), 1
	if machine == elf.EM_ARM {
		h.Flags = 5 << 24 // EABI, version 5
	}
	p.Type, p.Vaddr, p.Flags, p.Align = uint32(elf.PT_LOAD), narrowBase, uint32(elf.PF_R|elf.PF_X), 4096
	p.Filesz = entry + uint32(len(code))
	p.Memsz = p.Filesz
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, h) // a buffer takes all
	_ = binary.Write(&b, binary.LittleEndian, p)
	b.WriteString(narrowPath)
	b.Write(make([]byte, int(entry)-b.Len()))
	b.Write(code)
	return b.Bytes()
}

var narrow = testguest.Register("narrow", func(g *testguest.Guest) {
	g.Check(os.MkdirAll("/mnt/share", 0o755))
	g.Check(unix.Mount("files", "/mnt/share", "virtiofs", 0, ""))
	g.Check(os.WriteFile(narrowPath, nil, 0o600))
	g.Check(os.WriteFile("/tmp/narrow", narrowProgram(), 0o755))
	pause(g, "armed")
	out, err := exec.Command("/tmp/narrow").CombinedOutput()
	g.Report("ran", fmt.Sprint(err, string(out)))
	pause(g, "done")
})

// TestCallsOf32Bits has a program of 32 bits make calls whose numbers, names and
// parameters are of its own ABI, by each way into the kernel that it has.
func TestCallsOf32Bits(t *testing.T) {
	testkvm.Need(t)
	dir := t.TempDir()
	k := kernel(t)
	r := narrow.Start(t, vmm.Config{Shares: []vmm.Share{{Tag: "files", Dir: dir}}})
	r.Event("armed")
	rec := &recorder{}
	tr, err := trap.Arm(t.Context(), trap.Of(r.Machine), trap.Config{
		VM: "vm", Kernel: k, Process: true, Arguments: true, Data: 32, Sink: func(event.Event) unix.Errno { return 0 },
		Result: func(e event.Event) { rec.sink(e) },
		Calls:  []string{"openat", "pwrite64", "mmap2", "getuid32", "getuid"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/armed", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	runs := !tunedKernel(t) // which is built without programs of 32 bits
	if got := testguest.Get[string](r, "ran"); runs != (got == "<nil>") || !runs && !strings.Contains(got, "exec format error") {
		t.Errorf("the program: %s", got)
	}
	r.Event("done")
	if err := tr.Disarm(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/done", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.Finish()
	abi := map[string]string{"amd64": "i386", "arm64": "arm"}[runtime.GOARCH]
	var got []string
	for _, e := range rec.all() {
		if e.Process.Exe != "/tmp/narrow" {
			if e.Call.ABI == abi {
				t.Errorf("%s by %s of %s", e.Call.Name, abi, e.Process.Exe)
			}
			continue
		}
		line := syscalls.Format(&e.Call, 32)
		if name, _, _ := strings.Cut(line, "("); name == "mmap2" {
			line, _, _ = strings.Cut(line, " = ")
		}
		got = append(got, e.Call.ABI+" "+line)
	}
	want := []string{
		abi + ` openat(AT_FDCWD, "/tmp/narrow file", O_RDONLY|O_CLOEXEC) = 3`,
		abi + ` pwrite64(-1, "/tmp", 4, 4294967298) = -1 EBADF (Bad file descriptor)`,
		abi + ` mmap2(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)`,
		abi + ` getuid32() = 0`,
	}
	if !runs {
		want = nil
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("calls (-want +got):\n%s", d)
	}
}

// tunedKernel reports whether the guests of this test run have the tuned kernel.
func tunedKernel(t *testing.T) bool {
	t.Helper()
	pkg, err := kernelpkg.Default(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	return pkg.Flavour == kernelpkg.Tuned
}
