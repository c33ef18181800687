package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"warder/lab/bench/initrd"
)

// A guest is what a machine is to run, in words that each peer has an option
// for.
type guest struct {
	kernel string
	initrd string
	memory int // MiB

	// devices are what initrd.Work is to measure, if it runs. A console among them has
	// the VMM's standard input and output.
	devices []string
	options string // of the kernel, beyond commandLine
}

// commandLine is the kernel's.
func (g guest) commandLine() string {
	line := commandLine
	if g.options != "" {
		line += " " + g.options
	}
	if len(g.devices) > 0 {
		line += " -- " + strings.Join(g.devices, " ")
	}
	return line
}

// commandLine is the kernel's, the same for all: what supervisor gives its
// guests.
const commandLine = "console=ttyS0 quiet loglevel=3 panic=-1 8250.nr_uarts=1 cryptomgr.notests random.trust_cpu=on"

// A peer is a VMM: a name and the command line that makes it run a guest, with
// the guest's serial port on standard output.
type peer struct {
	name    string
	command func(g guest) []string
}

// warderName is what the others are compared with.
const warderName = "warder"

func warderPeer(g guest) []string {
	return []string{"warder", "boot", "--kernel", g.kernel, "--initrd", g.initrd, "-m", strconv.Itoa(g.memory), "--append", g.commandLine()}
}

// warderTogether runs n guests in one process.
func warderTogether(g guest, n int) []string {
	return append(warderPeer(g), "--count", strconv.Itoa(n))
}

// qemu is a command line of QEMU without what it has by default and a guest
// does not need.
func qemu(program string, machine ...string) func(guest) []string {
	return func(g guest) []string {
		args := append([]string{program, "-nodefaults", "-no-user-config", "-display", "none", "-accel", "kvm", "-cpu", "host"}, machine...)
		serial := "stdio"
		if slices.Contains(g.devices, "console") {
			serial = "file:/dev/stderr"
		}
		return append(args, "-m", fmt.Sprintf("%dM", g.memory), "-serial", serial,
			"-kernel", g.kernel, "-initrd", g.initrd, "-append", strings.Replace(g.commandLine(), "ttyS0", qemuSerial, 1))
	}
}

// find reports whether a peer's program is in this machine.
func (p peer) find(g guest) error {
	_, err := exec.LookPath(p.command(g)[0])
	return err
}

// warderDevices are warder's options for its devices.
var warderDevices = map[string][]string{
	"blk":     {"--disk", diskFile},
	"fs":      {"--share", "bench:" + shareDir},
	"vsock":   {"--cid", "3", "--vsock-dir", devicesDir},
	"net":     {"--net", "tap:" + tapName + ",mac=" + initrd.GuestMAC},
	"console": {"--hvc"},
}

// qemuDevices are QEMU's, each as its documentation recommends it for speed, on the
// bus of machines without PCI.
var qemuDevices = map[string][]string{
	"blk": {
		"-object", "iothread,id=io", "-drive", "if=none,id=disk,format=raw,file=" + diskFile,
		"-device", "virtio-blk-device,drive=disk,iothread=io",
	},
	"fs": slices.Concat(sharedMemory, []string{
		"-chardev", "socket,id=share,path=" + socketOf("fs"), "-device", "vhost-user-fs-device,chardev=share,tag=bench",
	}),
	"net":     tapOptions("on"),
	"vsock":   {"-device", "vhost-vsock-device,guest-cid=3"},
	"console": {"-device", "virtio-serial-device", "-chardev", "stdio,id=tty,signal=off", "-device", "virtconsole,chardev=tty"},
}

// qemuUserDevices are QEMU's without drivers of the host's kernel made for them, as warder's
// are: disks by QEMU's own daemon, frames by QEMU itself.
var qemuUserDevices = map[string][]string{
	"blk": slices.Concat(sharedMemory, []string{
		"-chardev", "socket,id=disk,path=" + socketOf("blk"), "-device", "vhost-user-blk,chardev=disk",
	}),
	"net": tapOptions("off"),
}

func tapOptions(vhost string) []string {
	return []string{
		"-netdev", "tap,id=net,ifname=" + tapName + ",script=no,downscript=no,vhost=" + vhost,
		"-device", "virtio-net-device,netdev=net,mac=" + initrd.GuestMAC,
	}
}

// sharedMemory lets programs beside QEMU serve its guest.
var sharedMemory = []string{
	"-object", fmt.Sprintf("memory-backend-memfd,id=ram,share=on,size=%dM", bootMemory), "-machine", "memory-backend=ram",
}

// qemuModern makes the bus's devices those of VIRTIO 1.
var qemuModern = []string{"-global", "virtio-mmio.force-legacy=false"}

// qemuServers serve the devices in qemuDevices, qemuUserServers those in
// qemuUserDevices, that QEMU leaves to others.
func qemuServers() map[string][]string { return map[string][]string{"fs": virtiofsd()} }

func qemuUserServers() map[string][]string {
	return map[string][]string{"blk": {
		"qemu-storage-daemon", "--object", "iothread,id=io", "--blockdev", "driver=file,node-name=disk,filename=" + diskFile,
		"--export", "type=vhost-user-blk,id=disk,node-name=disk,writable=on,iothread=io,addr.type=unix,addr.path=" + socketOf("blk"),
	}}
}

// virtiofsd is the daemon in Rust if this machine has it, else the one in C
// that came with QEMU before 8.
func virtiofsd() []string {
	const rust, c = "/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"
	if _, err := os.Stat(rust); err == nil {
		return []string{rust, "--socket-path=" + socketOf("fs"), "--shared-dir=" + shareDir, "--sandbox=none"}
	}
	return []string{c, "--socket-path=" + socketOf("fs"), "-o", "source=" + shareDir, "-o", "sandbox=chroot"}
}
