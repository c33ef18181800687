package introspect

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"warder/boot"
	"warder/boot/kernelpkg"
	"warder/internal/oracle"
	"warder/internal/testkvm"
)

// realKernels opens the guest kernels that are there. That of this
// architecture has to be where VMs run; the other's is looked at if it is there.
func realKernels(t *testing.T, test func(t *testing.T, k *Kernel, im *image)) {
	for _, arch := range []string{"amd64", "arm64"} {
		pkg, err := kernelpkg.Default(arch)
		switch {
		case err != nil && arch == runtime.GOARCH:
			testkvm.Missing(t, err.Error())
		case err != nil:
			t.Log(err)
			continue
		}
		t.Run(arch, func(t *testing.T) {
			opened, err := boot.Open(pkg.KernelPath, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			k, err := LoadBoot(opened)
			if err != nil {
				t.Fatal(err)
			}
			test(t, k, bootImage(opened))
		})
	}
}

// The kernel's table of exported symbols names the same addresses in another
// form: struct kernel_symbol, offsets relative to where they stand.
func TestKallsymsAgreesWithExports(t *testing.T) {
	realKernels(t, func(t *testing.T, k *Kernel, im *image) {
		if _, modular := k.symbols.Lookup("modules"); !modular {
			return // it exports nothing, as the tuned kernel does
		}
		checked := 0
		byName := make(map[string][]Symbol)
		for sym := range k.symbols.All() {
			byName[sym.Name] = append(byName[sym.Name], sym)
		}
		for _, table := range []string{"___ksymtab", "___ksymtab_gpl"} {
			start, err := k.symbols.Addr("__start" + table)
			if err != nil {
				t.Fatal(err)
			}
			stop, err := k.symbols.Addr("__stop" + table)
			if err != nil {
				t.Fatal(err)
			}
			const size = 12
			raw := im.bytes(start, stop-start)
			if raw == nil || len(raw)%size != 0 {
				t.Fatalf("%s is %d bytes", table, len(raw))
			}
			relative := func(at int) uint64 {
				return start + uint64(at) + uint64(int64(int32(le.Uint32(raw[at:]))))
			}
			for at := 0; at < len(raw); at += size {
				text := im.bytes(relative(at+4), 1)
				for n := uint64(2); text[len(text)-1] != 0; n++ {
					text = im.bytes(relative(at+4), n)
				}
				name := string(text[:len(text)-1])
				if slices.ContainsFunc(byName[name], func(s Symbol) bool { return s.Type == 'A' }) {
					continue // per-CPU: an offset there, relocated at boot here
				}
				if !slices.ContainsFunc(byName[name], func(s Symbol) bool { return s.Addr == relative(at) }) {
					t.Fatalf("%s is exported at %#x, kallsyms has %+v", name, relative(at), byName[name])
				}
				checked++
			}
		}
		// A kernel that takes no modules exports nothing.
		if modules := configured(t, k.Arch(), "CONFIG_MODULES"); modules && checked < 300 || !modules && checked > 0 {
			t.Errorf("%d symbols compared; takes modules: %v", checked, modules)
		}
	})
}

// configured tells whether a kernel was built with an option.
func configured(t *testing.T, arch, option string) bool {
	t.Helper()
	pkg, err := kernelpkg.Default(arch)
	if err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(pkg.ConfigPath)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(config), "\n"+option+"=y\n")
}

func TestRealKernel(t *testing.T) {
	realKernels(t, func(t *testing.T, k *Kernel, im *image) {
		if !strings.HasPrefix(k.Banner(), "Linux version ") {
			t.Errorf("banner %q", k.Banner())
		}
		for _, f := range []field{k.layout.taskPID, k.layout.taskFiles, k.layout.filePath, k.layout.calls[Native].arg[0]} {
			if f.size == 0 || f.off > 16384 {
				t.Errorf("a field of %d bytes at %d", f.size, f.off)
			}
		}
		// The same kernel by its bytes, where they are not packed in a bzImage.
		pkg, err := kernelpkg.Default(k.Arch())
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(pkg.KernelPath)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Load(raw)
		if err != nil {
			t.Fatal(err)
		}
		if again.symbols.Len() != k.symbols.Len() || *again.layout != *k.layout || again.Banner() != k.Banner() {
			t.Error("the kernel as a file and as it is booted differ")
		}
	})
}

// Where a kernel was linked, which its Image of arm64 does not say anywhere.
func TestLinked(t *testing.T) {
	realKernels(t, func(t *testing.T, k *Kernel, _ *image) {
		g, err := k.Linked()
		if errors.Is(err, ErrNotLinked) && !configured(t, k.Arch(), "CONFIG_KALLSYMS_ALL") {
			return // what it is told by is a variable
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := g.Addr("_text")
		if err != nil {
			t.Fatal(err)
		}
		// KIMAGE_VADDR is MODULES_END (arch/arm64/include/asm/memory.h), and
		// START_KERNEL (arch/x86/include/asm/page_types.h) 16 MiB into its map.
		want := map[string]uint64{"amd64": 0xffffffff81000000, "arm64": 0xffff800080000000}[k.Arch()]
		if text != want {
			t.Errorf("_text is at %#x, want %#x", text, want)
		}
	})
}

func TestNotAKernel(t *testing.T) {
	for _, p := range [][]byte{nil, []byte("short"), make([]byte, 4096), []byte("\x7fELFgarbage")} {
		if _, err := Load(p); err == nil {
			t.Errorf("%q was loaded as a kernel", p)
		}
	}
	if _, err := Load([]byte("\x1f\x8b gzip")); !errors.Is(err, ErrFormat) {
		t.Errorf("a compressed kernel: %v", err)
	}
	noSymbols := make([]byte, 4096)
	copy(noSymbols[arm64MagicOffset:], arm64Magic)
	if _, err := Load(noSymbols); !errors.Is(err, ErrNoKallsyms) {
		t.Errorf("a kernel without symbols: %v", err)
	}
}

func TestLocate(t *testing.T) {
	const slide = 0x20_0000
	banner := "Linux version 1.0 (test)\n"
	for _, c := range []struct {
		arch    string
		symbols []Symbol
		anchor  uint64
		found   bool
	}{
		{"arm64", []Symbol{{"vectors", 'T', 0x10800}}, 0x10800, true},
		{"arm64", []Symbol{{"__bp_harden_el1_vectors", 'T', 0x11000}, {"vectors", 'T', 0x10800}}, 0x11000 + 2*0x800, true},
		{"arm64", []Symbol{{"vectors", 'T', 0x10800}}, 0x10800 + 0x800, false},
		{"arm64", []Symbol{{"vectors", 'T', 0x10800}}, 0x10800 + 0x1000, false},
		{"amd64", []Symbol{{"__per_cpu_start", 'A', 0}, {"current_task", 'A', 0x40}, {"entry_SYSCALL_64", 'T', 0x10080}}, 0x10080, true},
	} {
		w := newWorld()
		w.pages[slide] = new([4096]byte)
		w.write(slide+16, []byte(banner))
		k := &Kernel{arch: c.arch, types: new(btf.Spec), symbols: newSymbols(append(c.symbols, Symbol{"linux_banner", 'R', 16})), layout: testLayout(), banner: []byte(banner)}
		g, err := k.Locate(w, c.anchor+slide)
		switch {
		case c.found && (err != nil || g.Slide() != slide):
			t.Errorf("%s at %#x: %v", c.arch, c.anchor, err)
		case !c.found && !errors.Is(err, ErrNotLocated):
			t.Errorf("%s at %#x: found, or %v", c.arch, c.anchor, err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	pkg, err := kernelpkg.Default(runtime.GOARCH)
	if err != nil {
		oracle.Missing(b, "a guest kernel, which make deps gets: "+err.Error())
	}
	opened, err := boot.Open(pkg.KernelPath, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := LoadBoot(opened); err != nil {
			b.Fatal(err)
		}
	}
}
