package vmm_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"warder/boot"
	"warder/devices/guestmem"
	"warder/internal/testkernel"
	"warder/internal/testkvm"
	"warder/vmm"
)

// TestKernelIsInPlace compares a guest's memory with its kernel's segments and
// with both parts of its initramfs.
func TestKernelIsInPlace(t *testing.T) {
	testkvm.Open(t)
	file, ram := testkernel.ELF(), uint64(0)
	if runtime.GOARCH == "arm64" {
		file, ram = testkernel.Image(), 1<<30
	}
	path := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		t.Fatal(err)
	}
	inPlace(t, path, ram)
}

// inPlace boots the kernel at path as far as its first instruction. RAM begins
// at ram.
func inPlace(t *testing.T, path string, ram uint64) {
	t.Helper()
	want, err := boot.Open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	const memory = 128 << 20
	initrd := [][]byte{bytes.Repeat([]byte("one."), 1<<20), bytes.Repeat([]byte("two."), 100)}
	m, err := vmm.New(vmm.Config{Kernel: path, Memory: memory, Initrd: initrd, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, s := range want.Segments {
		got := make([]byte, len(s.Data))
		if err := m.Memory().ReadAt(got, guestmem.Addr(ram+s.Addr)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, s.Data) {
			t.Errorf("the %d bytes at %#x are others", len(got), s.Addr)
		}
	}
	all := make([]byte, memory)
	if err := m.Memory().ReadAt(all, guestmem.Addr(ram)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(all, bytes.Join(initrd, nil)) {
		t.Error("the initramfs is not there, or in pieces")
	}
}
