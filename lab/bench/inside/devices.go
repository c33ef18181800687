package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mdlayher/vsock"

	"warder/lab/bench/farend"
	"warder/lab/bench/initrd"
	"warder/lab/bench/measure"
)

// devicesDir is where the host's side of devices is.
const devicesDir = "/tmp/bench-devices"

// The files in it.
const (
	diskFile = devicesDir + "/disk"
	shareDir = devicesDir + "/share"
	portFile = devicesDir + "/port-5000.sock"
)

// socketOf is where another program serves a device.
func socketOf(device string) string { return devicesDir + "/" + device + ".sock" }

// vsockPort is where the guest's program finds the host.
const vsockPort = 5000

const diskSize = 64 << 20

// devices are measured in this order, all in one guest: to boot it takes longer than
// to measure them.
var devices = []string{"blk", "fs", "net", "vsock", "console"}

// A devicePeer has devices: the options that add them to a peer's machine, and what
// else has to run for them.
type devicePeer struct {
	bootPeer
	options map[string][]string // by device; one that has none is not measured
	global  []string            // for all of them
	servers map[string][]string // by device, the program that serves it
}

// extra are the options for devices.
func (p devicePeer) extra(devices []string) (args []string) {
	for _, d := range devices {
		args = append(args, p.options[d]...)
	}
	return append(args, p.global...)
}

// benchDevices measures devices by a program in the guest, the same under
// each peer; the host's files are in memory.
func benchDevices(ctx context.Context, b *bench) error {
	for _, p := range devicePeers(b.files) {
		if !strings.HasPrefix(p.name, b.peer) {
			continue
		}
		for range b.repeat {
			if err := deviceOnce(ctx, b, p); err != nil {
				b.absent(p.name, err)
				break
			}
		}
	}
	return nil
}

func deviceOnce(ctx context.Context, b *bench, p devicePeer) error {
	if err := os.RemoveAll(devicesDir); err != nil {
		return err
	}
	if err := os.MkdirAll(shareDir, 0o755); err != nil {
		return err
	}
	// A disk with every block in place, as one that has been in use.
	if err := os.WriteFile(diskFile, make([]byte, diskSize), 0o600); err != nil {
		return err
	}
	measured := slices.DeleteFunc(slices.Clone(devices), func(d string) bool { return p.options[d] == nil })
	leaveOut := func(device string, why error) {
		b.absent(p.name+" "+device, why)
		measured = slices.DeleteFunc(measured, func(d string) bool { return d == device })
	}
	for device, args := range p.servers {
		if stop, err := serve(ctx, args, socketOf(device)); err == nil {
			defer stop()
		} else {
			leaveOut(device, err)
		}
	}
	if p.name != warderName && slices.Contains(measured, "vsock") { // their vsock is the kernel's, not a Unix socket
		if l, err := vsock.ListenContextID(vsock.Host, vsockPort, nil); err == nil {
			defer l.Close()
			go farend.Serve(l, initrd.StreamSize)
		} else {
			leaveOut("vsock", err)
		}
	}
	g := guest{kernel: p.kernel, initrd: b.files.work, memory: bootMemory, devices: measured}
	if err := p.find(g); err != nil {
		return err
	}
	for network, address := range map[string]string{"unix": portFile, "tcp": tcpAddress} {
		l, err := net.Listen(network, address)
		if err != nil {
			return err
		}
		defer l.Close()
		go farend.Serve(l, initrd.StreamSize)
	}
	console := slices.Contains(measured, "console")
	m, err := b.start(ctx, append(p.command(g), p.extra(measured)...), console)
	if err != nil {
		return err
	}
	defer m.end()
	if err := setUpTAP(tapName, b.patience); err != nil {
		return err
	}
	if console {
		go farend.Answer(m.console, initrd.ConsoleSize)
	}
	found := false
	for {
		line, err := m.readTo('\n')
		if err != nil {
			return err
		}
		if strings.TrimSpace(line) == string(initrd.Mark) {
			break
		}
		found = b.addLine(p.name, line) || found
	}
	if !found {
		return errors.New("the guest measured nothing")
	}
	return nil
}

// addLine records a line that a guest measured, and reports whether it was one: the
// kernel has lines of its own.
func (b *bench) addLine(peer, line string) bool {
	line = strings.TrimSpace(line)
	if why, ok := strings.CutPrefix(line, "error "); ok {
		b.absent(peer, fmt.Errorf("in the guest: %s", why))
		return true
	}
	quantity, value, ok := quantityOf(line)
	if !ok {
		return false
	}
	unit, better := "MB/s", measure.More
	for _, latency := range []string{"latency", "trip", "close"} {
		if strings.HasSuffix(quantity, latency) {
			unit, better = "µs", measure.Less
		}
	}
	b.add(strings.Replace(quantity, "/", " ", 1), peer, unit, better, value)
	return true
}

// quantityOf takes a line "device/quantity value" apart.
func quantityOf(line string) (quantity string, value float64, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 {
		return "", 0, false
	}
	value, err := strconv.ParseFloat(line[i+1:], 64)
	return line[:i], value, err == nil && strings.Contains(line[:i], "/")
}

// serve runs a device's server, which makes a socket, until stop.
func serve(ctx context.Context, args []string, socket string) (stop func(), err error) {
	if _, err := exec.LookPath(args[0]); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	if err := awaitFile(socket, ended); err != nil {
		stop()
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(args[0]), err, said.String())
	}
	return stop, nil
}

var errServerEnded = errors.New("it ended")
