package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"warder/lab/bench/farend"
	"warder/lab/bench/initrd"
)

// Where the benchmark of the LAN keeps what it shares with guests.
const (
	lanDir    = "/tmp/bench-lan"
	lanValues = lanDir + "/values" // written by a guest, renamed when all of it is there

	bridgeName = "benchbr"
	// outside is an address of this machine, which guests reach through the gateway.
	outside = "192.0.2.1"
)

// lanHost has two VMs with two networks each: warder's, and TAPs on a bridge of the
// kernel's.
const lanHost = `
lan:
  vlans: [{name: bench, network: 10.1.0.0/24}]
  allow: [{from: near, to: far, ports: tcp}]
vms:
  - name: far
    command: [/bench/guest, serve]
    shares: ["/bench:/bench:ro"]
    nets: ["tap:bench-far,ip=10.78.0.3/24"]
    lan: {vlan: bench, address: 10.1.0.3}
  - name: near
    command: [/bench/guest, measure, /values, "warder=10.1.0.3", "kernel bridge=10.78.0.3", "gateway=192.0.2.1"]
    shares: ["/bench:/bench:ro", "` + lanDir + `:/values"]
    nets: ["tap:bench-near,ip=10.78.0.2/24"]
    lan: {vlan: bench, address: 10.1.0.2, egress: [{to: 192.0.2.1}]}
`

// benchLAN measures TCP from one VM to another through the switch and, between the same
// VMs, through a bridge of the kernel's, and from a VM to the outside through the gateway
// and through what QEMU has for users without privileges.
func benchLAN(ctx context.Context, b *bench) error {
	err := makeBridge(bridgeName)
	if err == nil {
		err = setUp(bridgeName, "")
	}
	if err != nil { // of a kernel that was installed without the module: warder kernel pull --force
		b.absent("kernel bridge", err)
	}
	if err := setUp("lo:1", outside); err != nil {
		return err
	}
	l, err := net.Listen("tcp", tcpAddress)
	if err != nil {
		return err
	}
	defer l.Close()
	go farend.Serve(l, initrd.StreamSize)
	for range b.repeat {
		if strings.HasPrefix(warderName, b.peer) {
			if err := b.lanOnce(ctx); err != nil {
				b.absent(warderName, err)
			}
		}
		for _, p := range natPeers(b.files) {
			if !strings.HasPrefix(p.name, b.peer) {
				continue
			}
			if err := b.natOnce(ctx, p); err != nil {
				b.absent(p.name, err)
			}
		}
	}
	return nil
}

// lanOnce runs the two VMs.
func (b *bench) lanOnce(ctx context.Context) error {
	if err := errors.Join(os.RemoveAll(lanDir), os.MkdirAll(lanDir, 0o755)); err != nil {
		return err
	}
	config := filepath.Join(lanDir, "host.yaml")
	if err := os.WriteFile(config, []byte(lanHost), 0o644); err != nil {
		return err
	}
	m, err := b.start(ctx, []string{"warder", "host", "--config", config}, false)
	if err != nil {
		return err
	}
	defer m.end()
	for _, name := range []string{"bench-far", "bench-near"} {
		tap, err := awaitTAP(name, b.patience)
		if err != nil {
			return fmt.Errorf("%w; warder said %q", err, last(m.stderr.Bytes()))
		}
		if err := errors.Join(join(bridgeName, tap.Index), setUp(name, "")); err != nil {
			b.absent("kernel bridge", err)
		}
	}
	for end := time.Now().Add(b.patience); ; time.Sleep(10 * time.Millisecond) {
		values, err := os.ReadFile(lanValues)
		if err == nil {
			for line := range strings.Lines(string(values)) {
				peer, line, _ := strings.Cut(line, ": ")
				b.addLine(peer, line)
			}
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the guests measured nothing in %v", b.patience)
		}
	}
}

// A natPeer is a VMM with a network that needs no privilege.
type natPeer struct {
	bootPeer
	options []string
}

// natPeers are QEMU with its user networking (slirp). Its guests find this machine at the
// address of the network's router.
func natPeers(f files) (peers []natPeer) {
	for _, p := range devicePeers(f) {
		if p.name == warderName {
			continue
		}
		p.bootPeer.name = "qemu user"
		options := []string{"-netdev", "user,id=net,net=10.77.0.0/24,host=" + initrd.HostAddress, "-device", "virtio-net-device,netdev=net,mac=" + initrd.GuestMAC}
		peers = append(peers, natPeer{p.bootPeer, append(options, p.global...)})
	}
	return peers
}

// natOnce runs a VM with the peer's network, and measures as devices are.
func (b *bench) natOnce(ctx context.Context, p natPeer) error {
	g := guest{kernel: p.kernel, initrd: b.files.work, memory: bootMemory, devices: []string{"net"}}
	if err := p.find(g); err != nil {
		return err
	}
	m, err := b.start(ctx, append(p.command(g), p.options...), false)
	if err != nil {
		return err
	}
	defer m.end()
	for found := false; ; {
		line, err := m.readTo('\n')
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) == string(initrd.Mark) {
			if !found {
				return errors.New("the guest measured nothing")
			}
			return nil
		}
		found = b.addLine(p.name, strings.Replace(line, "net/", "outside/", 1)) || found
	}
}
