package trap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/boot"
	"warder/boot/kernelpkg"
	"warder/devices/guestmem"
	"warder/internal/testkvm"
	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/vmm"
	"warder/vmm/pagetable"
)

// fake is a machine whose memory is a real kernel's image at its link address,
// as it is before that kernel has run. It stands still all the time.
type fake struct {
	mem    *guestmem.Memory
	image  []byte // the segment that holds the kernel's code
	base   uint64 // its address
	kernel *introspect.Kernel
	anchor uint64
	slide  uint64
	pc     uint64
	hook   HookFunc
	owner  any
	hooks  []bool // each call of SetHook: with a function or without
}

func (f *fake) Memory() Memory                         { return f.mem }
func (f *fake) CPUs() []CPU                            { return []CPU{f} }
func (f *fake) WithVCPUsStopped(do func() error) error { return do() }
func (f *fake) Owner(make func() any) any {
	if f.owner == nil {
		f.owner = make()
	}
	return f.owner
}
func (f *fake) SetHook(h HookFunc) error {
	f.hook, f.hooks = h, append(f.hooks, h != nil)
	return nil
}

func (f *fake) ID() int                        { return 3 }
func (f *fake) PC() uint64                     { return f.pc }
func (f *fake) Arg(int) uint64                 { return 0 }
func (f *fake) StackPointer() (uint64, error)  { return 0, nil }
func (f *fake) ReturnAddress() (uint64, error) { return 0, nil }
func (f *fake) SetReturnAddress(uint64) error  { return nil }
func (f *fake) Result() (uint64, error)        { return 0, nil }
func (f *fake) KernelBase() (uint64, error)    { return 0, nil }
func (f *fake) SyscallEntry() (uint64, error)  { return f.anchor, nil }

// AddressSpace maps each address to itself.
func (f *fake) AddressSpace() (pagetable.Space, error) { return pagetable.AMD64{}.Space(), nil }

func (f *fake) KernelSpace(bool) (pagetable.Space, error) { return f.AddressSpace() }
func (f *fake) WholeSpace() (pagetable.Space, error)      { return f.AddressSpace() }

var calls = []string{"execve", "openat", "write"}

// eachKernel runs a test on the guest kernels that are there.
func eachKernel(t *testing.T, test func(t *testing.T, f *fake)) {
	found := false
	for _, arch := range []string{"amd64", "arm64"} {
		pkg, err := kernelpkg.Default(arch)
		if err != nil {
			continue
		}
		found = true
		t.Run(arch, func(t *testing.T) { test(t, newFake(t, pkg.KernelPath)) })
	}
	if !found {
		testkvm.Missing(t, "no guest kernel")
	}
}

// read is what has been read of a kernel file, which no test changes.
type read struct {
	boot   *boot.Kernel
	kernel *introspect.Kernel
}

var reads = map[string]read{}

func newFake(t *testing.T, path string) *fake {
	t.Helper()
	r, ok := reads[path]
	if !ok {
		var err error
		if r.boot, err = boot.Open(path, t.TempDir()); err != nil {
			t.Fatal(err)
		}
		if r.kernel, err = introspect.LoadBoot(r.boot); err != nil {
			t.Fatal(err)
		}
		reads[path] = r
	}
	opened, f := r.boot, &fake{kernel: r.kernel}
	// An amd64 image has more segments, of data; an arm64 one is linked at 0,
	// where nothing may be in an address space that is told from nothing.
	const move = 1 << 30
	var regions []guestmem.Region
	for i, s := range opened.Segments {
		at := s.Addr + 0xffffffff80000000
		if opened.Arch == "arm64" {
			at = move
		}
		data := bytes.Clone(s.Data)
		data = append(data, make([]byte, -len(data)&4095)...)
		if i == 0 {
			f.image, f.base = data, at
		}
		regions = append(regions, guestmem.Region{Base: guestmem.Addr(at), Bytes: data})
	}
	mem, err := guestmem.New(regions...)
	if err != nil {
		t.Fatal(err)
	}
	f.mem = mem
	anchor := "entry_SYSCALL_64"
	slide := uint64(0)
	if opened.Arch == "arm64" {
		anchor, slide = "vectors", move
	}
	at, err := f.kernel.Symbols().Addr(anchor)
	if err != nil {
		t.Fatal(err)
	}
	f.anchor, f.slide = at+slide, slide
	return f
}

// trace does what the kernel's tracer does when it gets ready: it puts a NOP in
// place of each function's call, or frees one of two.
func (f *fake) trace(t *testing.T) {
	t.Helper()
	if at, err := f.kernel.Symbols().Addr("alternatives_patched"); err == nil {
		if err := f.mem.WriteAt([]byte{1, 0, 0, 0}, guestmem.Addr(at+f.slide)); err != nil {
			t.Fatal(err)
		}
	}
	names := []string{programCheck}
	for _, name := range append(slices.Clone(calls), "close") {
		for _, h := range handlers[f.kernel.Arch()] {
			names = append(names, h.prefix+name)
		}
	}
	for _, name := range names {
		if sym, ok := f.kernel.Symbols().Lookup(name); ok {
			if f.kernel.Arch() == "arm64" {
				copy(f.image[sym.Addr:], []byte{0xe9, 0x03, 0x1e, 0xaa})
				continue
			}
			code := f.image[sym.Addr-f.base:]
			i := bytes.IndexByte(code[:5], 0xe8)
			if i < 0 {
				t.Fatalf("%s begins with % x, no call", sym.Name, code[:8])
			}
			copy(code[i:], patches["amd64"].nop)
			if strings.HasPrefix(name, "__ia32_") {
				copy(code, []byte{0x66, 0x0f, 0x1f, 0x00}[:i]) // sealed
			}
		}
	}
}

func (f *fake) arm(t *testing.T, sink Sink) (*Traps, error) {
	t.Helper()
	return Arm(t.Context(), f, Config{VM: "vm", Kernel: f.kernel, Calls: calls, Sink: sink})
}

func pass(event.Event) unix.Errno { return 0 }

func TestArmAndDisarm(t *testing.T) {
	eachKernel(t, func(t *testing.T, f *fake) {
		f.trace(t)
		before := bytes.Clone(f.image)
		tr, err := f.arm(t, pass)
		if err != nil {
			t.Fatal(err)
		}
		functions := tr.Functions()
		if want := handlers[f.kernel.Arch()][0].prefix + "execve"; !slices.Contains(functions, want) || len(functions) < len(calls) {
			t.Errorf("hooked %v, want %s among them", functions, want)
		}
		hooked := bytes.Clone(before)
		p := patches[f.kernel.Arch()]
		for at, s := range tr.h.now.Load().sites {
			nop := p.nop
			if s.name == tracerBegins || s.name == tracerEnds {
				nop = s.old
			}
			if !bytes.HasPrefix(before[at-f.base:], nop) {
				t.Errorf("%s was no NOP", s.name)
			}
			copy(hooked[at-f.base:], s.hook)
		}
		if !bytes.Equal(hooked, f.image) {
			t.Error("something else than the NOPs was changed")
		}
		if err := tr.Disarm(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(before, f.image) {
			t.Error("the kernel's code is not as it was")
		}
		if d := cmp.Diff([]bool{true, false}, f.hooks); d != "" {
			t.Errorf("hook functions (-want +got):\n%s", d)
		}
		if err := tr.Disarm(t.Context()); err != nil {
			t.Errorf("taking off what is off: %v", err)
		}
	})
}

// A function that does not begin with a NOP is left alone, and the error says
// what was found.
func TestArmRefuses(t *testing.T) {
	eachKernel(t, func(t *testing.T, f *fake) {
		f.trace(t)
		at, err := f.kernel.Symbols().Addr(handlers[f.kernel.Arch()][0].prefix + "write")
		if err != nil {
			t.Fatal(err)
		}
		old := bytes.Clone(f.image)
		if f.kernel.Arch() == "arm64" {
			copy(f.image[at:], []byte{0xfd, 0x7b, 0xbf, 0xa9}) // stp
		} else {
			copy(f.image[at-f.base:], []byte{0x55, 0x48, 0x89, 0xe5}) // push; mov
		}
		before := bytes.Clone(f.image)
		_, err = f.arm(t, pass)
		if !errors.Is(err, ErrNotPatchable) || !strings.Contains(err.Error(), "(push") && !strings.Contains(err.Error(), "(stp") {
			t.Errorf("error %v", err)
		}
		if !bytes.Equal(before, f.image) {
			t.Error("the kernel's code was changed all the same")
		}
		if f.hook != nil {
			t.Error("a hook function was left")
		}
		copy(f.image, old)
		for _, c := range []struct {
			cfg  Config
			says string
		}{
			{Config{Kernel: f.kernel, Calls: []string{"execve", "nonsense"}, Sink: pass}, `no system call "nonsense"`},
			{Config{Calls: calls, Sink: pass}, "a kernel and a sink"},
			{Config{Kernel: f.kernel, Calls: calls}, "a kernel and a sink"},
		} {
			if _, err := Arm(t.Context(), f, c.cfg); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want one that says %q", err, c.says)
			}
		}
	})
}

func TestArmWaitsForTheKernel(t *testing.T) {
	eachKernel(t, func(t *testing.T, f *fake) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*locateEvery)
		defer cancel()
		// As it is before the kernel's tracer has got ready.
		if _, err := Arm(ctx, f, Config{VM: "vm", Kernel: f.kernel, Calls: calls, Sink: pass}); !errors.Is(err, errNotReady) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		f.trace(t)
		anchor := f.anchor
		f.anchor = 0x1234567
		_, err := Arm(ctx, f, Config{VM: "vm", Kernel: f.kernel, Calls: calls, Sink: pass})
		if !errors.Is(err, introspect.ErrNotLocated) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		f.anchor = anchor
		if _, err := f.arm(t, pass); err != nil {
			t.Errorf("when it is there: %v", err)
		}
	})
}

// What somebody else has put in a hook's place stays.
func TestDisarmLeavesOthersCode(t *testing.T) {
	eachKernel(t, func(t *testing.T, f *fake) {
		f.trace(t)
		before := bytes.Clone(f.image)
		tr, err := f.arm(t, pass)
		if err != nil {
			t.Fatal(err)
		}
		var at uint64
		for a := range tr.h.now.Load().sites {
			at = a
		}
		copy(f.image[at-f.base:], "MINE")
		copy(before[at-f.base:], f.image[at-f.base:][:len(patches[f.kernel.Arch()].nop)])
		if err := tr.Disarm(t.Context()); err == nil || !strings.Contains(err.Error(), "was changed to 4d 49 4e 45") {
			t.Errorf("error %v", err)
		}
		if !bytes.Equal(before, f.image) {
			t.Error("the other sites are not as they were, or that one is")
		}
	})
}

// A hit whose task cannot be read is reported all the same, marked, and the
// sink decides.
func TestHitWithoutATask(t *testing.T) {
	eachKernel(t, func(t *testing.T, f *fake) {
		f.trace(t)
		var got []event.Event
		tr, err := f.arm(t, func(e event.Event) unix.Errno { got = append(got, e); return unix.EACCES })
		if err != nil {
			t.Fatal(err)
		}
		for at, s := range tr.h.now.Load().sites {
			if s.call != nil && s.call.Name == "execve" && !s.check {
				f.pc = at
			}
		}
		if got, want := fmt.Sprint(f.hook(f)), fmt.Sprint(vmm.Return(-int64(unix.EACCES))); got != want {
			t.Errorf("the hook gave %v, want %v", got, want)
		}
		if len(got) != 1 {
			t.Fatalf("%d events", len(got))
		}
		e := got[0]
		if e.Kind != event.Syscall || e.VM != "vm" || e.VCPU != 3 || e.Seq != 1 || e.Time == 0 || e.Call.Name != "execve" ||
			e.Call.Missing != event.MissingProcess|event.MissingArgs|event.MissingPath|event.MissingFile {
			t.Errorf("event %+v", e)
		}
		f.pc++
		if got, want := fmt.Sprint(f.hook(f)), fmt.Sprint(vmm.Decline); got != want {
			t.Errorf("a stray hit gave %v, want %v", got, want)
		}
		if s := tr.Stats(); s != (Stats{Hits: 1, Denied: 1, Strays: 1, Undecoded: 1}) {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestNOPOffset(t *testing.T) {
	for _, c := range []struct {
		arch string
		code string
		off  int
		ok   bool
	}{
		{"amd64", "\x0f\x1f\x44\x00\x00\x55", 0, true},
		{"amd64", "\xf3\x0f\x1e\xfa\x0f\x1f\x44\x00\x00", 4, true},
		{"amd64", "\x66\x0f\x1f\x00\x0f\x1f\x44\x00\x00", 4, true},
		{"amd64", "\x0f\x1f\x40\x00\x0f\x1f\x44\x00\x00", 4, true},
		{"amd64", "\xf3\x0f\x1e\xfa\xf3\x0f\x1e\xfa\x0f\x1f\x44\x00\x00", 4, false},
		{"amd64", "\xf3\x0f\x1e\xfa\xe8\x00\x00\x00\x00", 4, false},
		{"amd64", "\xe6\xea\x90\x90\x90", 0, false},
		{"arm64", "\x1f\x20\x03\xd5", 0, true},
		{"arm64", "\x5f\x24\x03\xd5\xe9\x03\x1e\xaa\x1f\x20\x03\xd5", 8, true},
		{"arm64", "\xe9\x03\x1e\xaa\x1f\x20\x03\xd5", 4, true},
		{"arm64", "\x3f\x23\x03\xd5\x1f\x20\x03\xd5", 4, true},
		{"arm64", "\xe9\x03\x1e\xaa\x00\x00\x00\x94", 4, false},
		{"arm64", "\x80\xe8\x2a\xd4", 0, false},
	} {
		code := append([]byte(c.code), make([]byte, maxEntry)...)
		if off, ok := patches[c.arch].nopOffset(code); off != c.off || ok != c.ok {
			t.Errorf("%s % x: %d, %v, want %d, %v", c.arch, c.code, off, ok, c.off, c.ok)
		}
	}
}

func TestShares(t *testing.T) {
	s, err := OpenShares(map[string]string{"files": t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	root := s.byTag["files"].root
	if err := root.WriteFile("f", []byte("12345"), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"out": "/etc", "l": "f"} {
		if err := root.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	if e, err := s.Lstat("files", "/f"); err != nil || e.Size != 5 || e.Inode == 0 || !e.Mode.IsRegular() {
		t.Errorf("a file: %+v, %v", e, err)
	}
	if e, err := s.Lstat("files", "/"); err != nil || !e.Mode.IsDir() {
		t.Errorf("the root: %+v, %v", e, err)
	}
	if e, err := s.Lstat("files", "/out"); err != nil || e.Target != "/etc" {
		t.Errorf("a link: %+v, %v", e, err)
	}
	for _, path := range []string{"/out/passwd", "/../f", "/absent"} {
		if e, err := s.Lstat("files", path); err == nil {
			t.Errorf("%s: %+v", path, e)
		}
	}
	f, err := s.Lstat("files", "/f")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(s.byTag["files"].dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	pipe, err := s.Lstat("files", "/pipe")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		tag, path string
		inode     uint64
		limit     int
		want      string
	}{
		{"files", "/f", f.Inode, 100, "12345"},
		{"files", "/f", f.Inode, 3, "123"},
		{"files", "/f", f.Inode, 0, ""},
		{"files", "/f", f.Inode + 1, 100, ""},
		{"files", "/pipe", pipe.Inode, 100, ""},
		{"files", "/out/passwd", f.Inode, 100, ""},
		{"other", "/f", f.Inode, 100, ""},
	} {
		if got := s.head(c.tag, c.path, c.inode, c.limit); string(got) != c.want {
			t.Errorf("head of %s %s: %q, want %q", c.tag, c.path, got, c.want)
		}
	}
	if _, err := s.Lstat("other", "/f"); err == nil {
		t.Error("a share that is not there was looked at")
	}
	if _, err := OpenShares(map[string]string{"x": "/nowhere/at/all"}); err == nil {
		t.Error("a directory that is not there was opened")
	}
}
