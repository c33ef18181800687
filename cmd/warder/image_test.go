package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"warder/boot/boardimage"
	"warder/boot/kernelpkg"
	"warder/internal/oracle"
	"warder/lab"
)

// boards are machines with an emulated KVM, as lab's are, but with no more than
// firmware would find.
var boards = map[string]struct {
	arch    string
	machine []string
	said    string // by the VM
}{
	"amd64":       {"amd64", []string{"-M", "pc", "-cpu", "EPYC-v1,+svm,+npt", "-smp", "2"}, "product 42 on x86_64"},
	"arm64-gicv2": {"arm64", []string{"-M", "virt,virtualization=on,gic-version=2", "-cpu", "cortex-a76"}, "product 42 on aarch64"},
	"arm64-gicv3": {"arm64", []string{"-M", "virt,virtualization=on,gic-version=3", "-cpu", "cortex-a76"}, "product 42 on aarch64"},
}

const boardConfig = `vms:
  - name: computer
    command: [sh, -c, 'echo product $((6*7)) on $(uname -m)']
`

// TestImageBoots boots an image on a machine that has nothing else: a VM in it
// does something, and when it is done the machine switches itself off.
func TestImageBoots(t *testing.T) {
	if testing.Short() {
		t.Skip("boots machines")
	}
	for name, b := range boards {
		t.Run(name, func(t *testing.T) {
			prepared, err := lab.Prepare(t.Context(), lab.Config{Arch: b.arch, Init: "/init", Kernel: "kernel"})
			if err != nil {
				oracle.Missing(t, "an emulator, which make deps gets: "+err.Error())
			}
			// The cloud kernel knows these machines, too.
			kernel, err := kernelpkg.Find(b.arch)
			if err != nil {
				oracle.Missing(t, err.Error())
			}
			dir := t.TempDir()
			image := filepath.Join(dir, "image")
			err = boardimage.Write(image, boardimage.Config{
				Arch: b.arch, Warder: buildWarder(t, dir, b.arch), Host: kernel, Guest: kernel, HostConfig: []byte(boardConfig), Built: time.Now(),
				Cmdline: boardCmdline,
			})
			if err != nil {
				t.Fatal(err)
			}
			cmdline, err := os.ReadFile(filepath.Join(image, "cmdline.txt"))
			if err != nil {
				t.Fatal(err)
			}
			runBoard(t, prepared.QEMU, slices.Concat(b.machine, []string{
				"-kernel", filepath.Join(image, "vmlinuz"), "-initrd", filepath.Join(image, "initrd.img"), "-append", strings.TrimSpace(string(cmdline)),
			}), b.said)
		})
	}
}

// boardCmdline leaves out what is dear when emulated.
const boardCmdline = "rodata=off cryptomgr.notests random.trust_cpu=on mitigations=off"

// buildWarder builds warder for an architecture.
func buildWarder(t *testing.T, dir, arch string) string {
	t.Helper()
	path := filepath.Join(dir, "warder")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// runBoard runs a machine until it switches itself off, which ends QEMU well, and
// has it say on its serial port what its VM says, and that all was well.
func runBoard(t *testing.T, qemu lab.QEMU, machine []string, said string) {
	t.Helper()
	args := append([]string{"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-accel", "tcg,thread=multi", "-m", "2048", "-serial", "stdio"}, machine...)
	for _, d := range qemu.Data {
		args = append(args, "-L", d)
	}
	const patience = 8 * time.Minute // ten times what it takes
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("the machine still ran after %v", patience))
	defer cancel()
	log, err := exec.CommandContext(ctx, qemu.Path, args...).CombinedOutput()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	for _, want := range []string{said, "command ended with status 0", "warder: power off"} {
		if !strings.Contains(string(log), want) {
			t.Errorf("the machine did not say %q:\n%s", want, log)
		}
	}
}
