package symfile

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"warder/boot"
	"warder/boot/kernelpkg"
	"warder/internal/oracle"
	"warder/internal/testkvm"
	"warder/secmon/introspect"
)

// TestGDBReadsSymbols has GDB look up symbols of the guest kernels that are there.
func TestGDBReadsSymbols(t *testing.T) {
	testkvm.OnHost(t, "GDB is there")
	gdb := oracle.Command(t, "gdb-multiarch", "gdb-multiarch")
	handlers := map[string]string{"amd64": "__x64_sys_openat", "arm64": "__arm64_sys_openat"}
	for arch, handler := range handlers {
		pkg, err := kernelpkg.Find(arch)
		if err != nil {
			t.Log(err)
			continue
		}
		opened, err := boot.Open(pkg.KernelPath, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		k, err := introspect.LoadBoot(opened)
		if err != nil {
			t.Fatal(err)
		}
		g, err := k.Linked()
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := Write(&b, g); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "symbols")
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		addr, err := g.Addr(handler)
		if err != nil {
			t.Fatal(err)
		}
		data, err := g.Addr("jiffies")
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), gdb, "-nx", "-batch", path,
			"-ex", "info address "+handler, "-ex", fmt.Sprintf("info symbol %#x", addr), "-ex", fmt.Sprintf("info symbol %#x", addr+1),
			"-ex", "info address jiffies", "-ex", "print &jiffies").CombinedOutput()
		if err != nil {
			t.Errorf("gdb: %v", err)
		}
		for _, want := range []string{
			fmt.Sprintf("\"%s\" is at %#x in a file compiled without debugging", handler, addr),
			handler + " in section .text", handler + " + 1 in section .text",
			fmt.Sprintf("\"jiffies\" is at %#x in a file", data), fmt.Sprintf("(<data variable, no debug info> *) %#x", data),
		} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: gdb does not say %q", arch, want)
			}
		}
		if t.Failed() {
			t.Logf("%s: %d bytes\n%s", arch, b.Len(), out)
		}
	}
}
