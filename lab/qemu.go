package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"warder/lab/outer"
	"warder/lab/wire"
)

// QEMU is an emulator, installed or unpacked.
type QEMU struct {
	Path string   // the program, qemu-system-x86_64 or qemu-system-aarch64
	Data []string // directories of its firmware; none means its built-in ones
}

// Unpacked returns the QEMU for arch whose Debian packages were unpacked
// under root.
func Unpacked(root, arch string) (QEMU, error) {
	a, ok := machines[arch]
	if !ok {
		return QEMU{}, fmt.Errorf("lab: no architecture %q", arch)
	}
	q := QEMU{
		Path: filepath.Join(root, "usr/bin", a.qemu),
		Data: []string{filepath.Join(root, "usr/share/seabios"), filepath.Join(root, "usr/share/qemu")},
	}
	if _, err := os.Stat(q.Path); err != nil {
		return QEMU{}, fmt.Errorf("lab: unpacked QEMU: %w", err)
	}
	return q, nil
}

// machines is what QEMU must be told for each architecture. The choices are
// measured: other CPU models are slower, or their nested clock stands still.
var machines = map[string]struct {
	qemu    string
	args    []string
	console string
	cmdline string
}{
	"amd64": {
		qemu:    "qemu-system-x86_64",
		args:    []string{"-M", "pc", "-cpu", "EPYC-v1,+svm,+npt"},
		console: "ttyS0",
		cmdline: "mitigations=off no_timer_check",
	},
	"arm64": {
		qemu:    "qemu-system-aarch64",
		args:    []string{"-M", "virt,virtualization=on,gic-version=3", "-cpu", "cortex-a76"},
		console: "ttyAMA0",
	},
}

// The file descriptors QEMU is started with, after the standard three.
const (
	initramfsFD = 3
	portFD      = 4
)

// arguments is QEMU's command line for cfg, which has its defaults.
func arguments(cfg Config) []string {
	a := machines[cfg.Arch]
	args := []string{"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"}
	for _, d := range cfg.QEMU.Data {
		args = append(args, "-L", d)
	}
	// Several CPUs by turns: each with a thread of its own, guests of an amd64 machine crash
	// now and then, and the machine itself (docs/decisions/0001).
	args = append(args, "-accel", "tcg,thread=single")
	if cfg.ICount {
		args = append(args, "-icount", "shift=0,sleep=off")
	}
	args = append(args, a.args...)
	return append(args,
		"-smp", strconv.Itoa(cfg.CPUs),
		"-m", fmt.Sprintf("%dM", cfg.Memory>>20),
		"-serial", "stdio",
		"-chardev", fmt.Sprintf("socket,id=lab,fd=%d", portFD),
		"-device", "virtio-serial-pci",
		"-device", "virtserialport,chardev=lab,name="+wire.PortName,
		"-kernel", cfg.Kernel,
		"-initrd", fmt.Sprintf("/proc/self/fd/%d", initramfsFD),
		"-append", commandLine(cfg),
	)
}

// commandLine is the outer kernel's. An oops must end the machine, so that it
// is seen at once; rodata=off spares a scan of the page tables that takes
// seconds when emulated. Without no_timer_check the kernel panics where the
// emulated timer ticks slower than it counts: on a host short of processors.
func commandLine(cfg Config) string {
	a := machines[cfg.Arch]
	return fmt.Sprintf("console=%s loglevel=4 oops=panic panic=-1 rodata=off cryptomgr.notests random.trust_cpu=on %s %s",
		a.console, a.cmdline, outer.CommandLine)
}
