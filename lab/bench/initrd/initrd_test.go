package initrd

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

func TestFirstIsAProgram(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		b, err := first(arch)
		if err != nil {
			t.Fatal(err)
		}
		f, err := elf.NewFile(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		if f.Machine != machine || len(f.Progs) != 1 || f.Progs[0].Filesz != uint64(len(b)) {
			t.Errorf("%s: %v, %d segments", arch, f.FileHeader, len(f.Progs))
		}
	}
}

// The program runs under any Linux: what it writes is Mark, and then it waits.
func TestFirstWritesItsMark(t *testing.T) {
	b, err := first(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(name, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1)
	if _, err := out.Read(got); err != nil || got[0] != Mark {
		t.Errorf("%q, %v", got, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Errorf("it did not wait: %v", err)
	}
	cmd.Wait()
}
