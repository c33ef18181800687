// Package testqemu has QEMU's emulated CPU run a kernel from the state in which
// a boot protocol's layout leaves it.
package testqemu

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"warder/boot"
	"warder/boot/kernelpkg"
	"warder/internal/oracle"
)

// patience is how long a kernel may run, many times what the slowest host takes.
const patience = 3 * time.Minute

// Kernel opens the installed guest kernel for arch and tells its release.
func Kernel(t *testing.T, arch string) (k *boot.Kernel, release string) {
	t.Helper()
	pkg, err := kernelpkg.Default(arch)
	if err != nil {
		oracle.Missing(t, err.Error())
	}
	if k, err = boot.Open(pkg.KernelPath, ""); err != nil {
		t.Fatal(err)
	}
	return k, pkg.Release
}

// Initrd is an initramfs of two parts, the first of an odd length.
func Initrd(t *testing.T) [][]byte {
	t.Helper()
	var archive bytes.Buffer
	w := cpio.Newc.Writer(&archive)
	files := []cpio.Record{cpio.Directory("data", 0o755), cpio.StaticFile("data/filler", strings.Repeat("x", 1<<20), 0o644)}
	if err := cpio.WriteRecords(w, files); err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	return [][]byte{append(archive.Bytes(), 0), archive.Bytes()}
}

// Run starts the program qemu with machine's arguments, with firmware that brings
// the first CPU into its state and segments in memory. It returns what the guest
// wrote to its serial port until it restarted its machine.
func Run(t *testing.T, qemu string, machine []string, firmware []byte, segments []boot.Segment) string {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	args := append(machine, "-m", "256", "-bios", file("rom", firmware),
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio")
	for i, s := range segments {
		if len(s.Data) > 0 {
			args = append(args, "-device", fmt.Sprintf("loader,file=%s,addr=%#x,force-raw=on", file(fmt.Sprint(i), s.Data), s.Addr))
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, qemu, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("QEMU: %v\n%s", err, out)
	}
	return string(out)
}

// Said looks in what a kernel said for all of wanted, and for complaints.
func Said(t *testing.T, log string, wanted, complaints []string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(log, want) {
			t.Errorf("the kernel did not say %q", want)
		}
	}
	for _, bad := range append(complaints, "[Firmware Bug]", "WARNING:", "BUG:") {
		if i := strings.Index(log, bad); i >= 0 {
			t.Errorf("the kernel said %q", log[i:min(len(log), i+200)])
		}
	}
	if t.Failed() {
		t.Log(log)
	}
}
