package main

import "strconv"

// QEMU and what Linux calls its serial port.
const (
	qemuProgram = "qemu-system-x86_64"
	qemuSerial  = "ttyS0"
)

// microvm is QEMU's smallest machine as its documentation recommends it for
// the least boot time.
const microvm = "microvm,x-option-roms=off,pit=off,pic=off,isa-serial=on,rtc=on"

// bootPeers run the same kernel, each from the files that it takes. Warder keeps
// an expanded bzImage for the next time.
func bootPeers(f files) []bootPeer {
	return []bootPeer{
		{peer{warderName, warderPeer}, f.vmlinux, false},
		{peer{"qemu pc", qemu(qemuProgram, "-M", "pc")}, f.bzImage, false},
		{peer{"gokvm", gokvm}, f.bzImage, false},
		{peer{"warder bzImage", warderPeer}, f.bzImage, true},
		{peer{"qemu microvm vmlinux", qemu(qemuProgram, "-M", microvm)}, f.vmlinux, false},
		{peer{"qemu microvm", qemu(qemuProgram, "-M", microvm)}, f.bzImage, false},
	}
}

// memoryPeers are the peers with the kernel files that they read fastest.
func memoryPeers(f files) []memoryPeer {
	return []memoryPeer{
		{bootPeer{peer{warderName, warderPeer}, f.vmlinux, false}, warderTogether},
		{bootPeer{peer{"qemu microvm", qemu(qemuProgram, "-M", microvm)}, f.vmlinux, false}, nil},
		{bootPeer{peer{"gokvm", gokvm}, f.bzImage, false}, nil},
	}
}

// devicePeers are the peers that have more devices than a serial port.
func devicePeers(f files) []devicePeer {
	return []devicePeer{
		{bootPeer{peer{warderName, warderPeer}, f.vmlinux, false}, warderDevices, nil, nil},
		{bootPeer{peer{"qemu microvm", qemu(qemuProgram, "-M", microvm)}, f.vmlinux, false}, qemuDevices, qemuModern, qemuServers()},
		{bootPeer{peer{"qemu microvm in user space", qemu(qemuProgram, "-M", microvm)}, f.vmlinux, false}, qemuUserDevices, qemuModern, qemuUserServers()},
	}
}

// gokvm has no ACPI tables, and the kernel has to be told.
func gokvm(g guest) []string {
	return []string{"gokvm", "boot", "-k", g.kernel, "-i", g.initrd, "-m", strconv.Itoa(g.memory) + "M",
		"-p", g.commandLine() + " noapic noacpi notsc lapic tsc_early_khz=2000 pci=realloc=off"}
}
