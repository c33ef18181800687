package trap

import (
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"warder/devices/guestmem"
	"warder/secmon/syscalls"
)

// TestTableAgainstKernel holds the table of package syscalls against what each
// kernel says of its own calls: struct syscall_metadata, which it keeps for its
// tracer.
func TestTableAgainstKernel(t *testing.T) {
	eachKernel(t, func(t *testing.T, f *fake) {
		var meta *btf.Struct
		if err := f.kernel.Types().TypeByName("syscall_metadata", &meta); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(meta.Members, func(m btf.Member) bool { return m.Name == "nb_args" })
		base := uint64(0)
		native, prefix := syscalls.AMD64, "__x64_sys_"
		if f.kernel.Arch() == "arm64" {
			base, native, prefix = 1<<30, syscalls.ARM64, "__arm64_sys_"
		}
		seen := map[string]bool{}
		for _, name := range syscalls.Names(native) {
			call := syscalls.Lookup(native, name)
			found := false
			for _, handler := range call.Handlers {
				if _, ok := f.kernel.Symbols().Lookup(prefix + handler); !ok {
					continue
				}
				found, seen[handler] = true, true
				at, err := f.kernel.Symbols().Addr("__syscall_meta__" + handler)
				if err != nil || strings.HasPrefix(handler, "ia32_") {
					continue // a stub for one that the kernel does not have, or of another ABI
				}
				var n [4]byte
				if err := f.mem.ReadAt(n[:], guestmem.Addr(at+base+uint64(meta.Members[i].Offset/8))); err != nil {
					t.Fatal(err)
				}
				if got := int(le.Uint32(n[:])); got != len(call.Params) {
					t.Errorf("%s has %d parameters, the kernel says %d", name, len(call.Params), got)
				}
			}
			if !found {
				t.Logf("no handler of %s", name)
			}
		}
		for sym := range f.kernel.Symbols().All() {
			if handler, ok := strings.CutPrefix(sym.Name, prefix); ok && !seen[handler] && !compatOnly(handler) && !foreign[handler] && !strings.HasSuffix(handler, ".cold") {
				t.Errorf("the table does not have %s", sym.Name)
			}
		}
	})
}

// foreign are handlers of which the kernel keeps stubs for calls of other
// architectures, and those of calls that newer kernels have no longer.
var foreign = map[string]bool{
	"ni_syscall": true, "gethostname": true, "s390_pci_mmio_read": true, "s390_pci_mmio_write": true, "s390_ipc": true,
	"rtas": true, "spu_run": true, "spu_create": true, "subpage_prot": true, "stime": true, "uretprobe": true,
	"bdflush": true, "lookup_dcookie": true,
}

// compatOnly says whether a native handler is there for 32-bit programs alone.
func compatOnly(handler string) bool {
	for _, a := range []syscalls.ABI{syscalls.I386, syscalls.ARM} {
		for _, name := range syscalls.Names(a) {
			if slices.Contains(syscalls.Lookup(a, name).Handlers, handler) {
				return true
			}
		}
	}
	return false
}
