package main

// QEMU and what Linux calls its serial port.
const (
	qemuProgram = "qemu-system-aarch64"
	qemuSerial  = "ttyAMA0"
)

// virt is QEMU's machine for guests of no particular board.
const virt = "virt,gic-version=3"

// bootPeers run the same kernel. gokvm is for amd64 only.
func bootPeers(f files) []bootPeer {
	return []bootPeer{
		{peer{warderName, warderPeer}, f.vmlinux, false},
		{peer{"qemu virt", qemu(qemuProgram, "-M", virt)}, f.vmlinux, false},
	}
}

func memoryPeers(f files) []memoryPeer {
	return []memoryPeer{
		{bootPeer{peer{warderName, warderPeer}, f.vmlinux, false}, warderTogether},
		{bootPeer{peer{"qemu virt", qemu(qemuProgram, "-M", virt)}, f.vmlinux, false}, nil},
	}
}

// devicePeers are the peers that have more devices than a serial port. Those are on
// the bus that warder's are on: not all kernels that guests run have PCI.
func devicePeers(f files) []devicePeer {
	return []devicePeer{
		{bootPeer{peer{warderName, warderPeer}, f.vmlinux, false}, warderDevices, nil, nil},
		{bootPeer{peer{"qemu virt", qemu(qemuProgram, "-M", virt)}, f.vmlinux, false}, qemuDevices, qemuModern, qemuServers()},
		{bootPeer{peer{"qemu virt in user space", qemu(qemuProgram, "-M", virt)}, f.vmlinux, false}, qemuUserDevices, qemuModern, qemuUserServers()},
	}
}
