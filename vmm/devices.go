package vmm

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"sync"

	"warder/devices/serial"
	"warder/devices/virtio"
	"warder/devices/virtio/balloon"
	"warder/devices/virtio/blk"
	"warder/devices/virtio/console"
	"warder/devices/virtio/fs"
	"warder/devices/virtio/mem"
	"warder/devices/virtio/mmio"
	"warder/devices/virtio/net"
	"warder/devices/virtio/rng"
	"warder/devices/virtio/vsock"
	"warder/kvm"
)

// devices are what is wired to a machine's buses.
type devices struct {
	uart   *serial.UART
	virtio []*mmio.Transport // by address
	nets   []*net.Device
	pins   []*pin
	disks  []*blk.Device // the first of virtio

	pmemSlots int // memory slots that files take
	vsock     *vsock.Device
	console   *console.Device
	ports     *console.Multiport
	balloon   *balloon.Device
	watchdogState
	hotplug *mem.Device // nil without memory that can be plugged

	feeds     sync.WaitGroup // host input to the serial port
	stopFeeds context.CancelFunc
}

// createDevices wires the platform's devices, then the virtio devices in an
// order that keeps the first disk at the first address.
func (m *Machine) createDevices() error {
	if err := m.createPlatform(); err != nil {
		return err
	}
	m.onClose(m.uart.Close)
	if err := m.addWatchdog(); err != nil {
		return err
	}
	for _, d := range m.cfg.Disks {
		if err := m.addDisk(d); err != nil {
			return err
		}
	}
	for _, s := range m.cfg.Shares {
		dev, err := fs.New(fs.Config{Tag: s.Tag, Dir: s.Dir, ReadOnly: s.ReadOnly, Watcher: s.Watcher})
		if err != nil {
			return err
		}
		m.onClose(dev.Close)
		if err := m.addVirtio(dev); err != nil {
			return err
		}
	}
	if err := m.addNets(); err != nil {
		return err
	}
	if err := m.addVirtio(rng.New(rand.Reader)); err != nil {
		return err
	}
	if err := m.addBalloon(); err != nil {
		return err
	}
	if err := m.addHotplug(); err != nil {
		return err
	}
	if m.cfg.VsockCID != 0 {
		dev, err := vsock.New(vsock.Config{CID: m.cfg.VsockCID, Dir: m.cfg.VsockDir, Watcher: m.cfg.VsockWatcher, Log: m.log})
		if err != nil {
			return err
		}
		m.vsock = dev
		m.onClose(dev.Close)
		if err := m.addVirtio(dev); err != nil {
			return err
		}
	}
	if m.cfg.Console.Out != nil {
		m.console = console.New(m.cfg.Console.In, m.cfg.Console.Out)
		m.onClose(m.console.Close)
		if err := m.addVirtio(m.console); err != nil {
			return err
		}
	}
	if err := m.addPorts(); err != nil {
		return err
	}
	return m.addPmems()
}

// addVirtio gives dev the next virtio slot: registers, a line for its interrupt, a
// doorbell a queue through ioeventfds, so that it takes no exit.
func (m *Machine) addVirtio(dev virtio.Device) error {
	addr, gsi := virtioSlot(len(m.virtio))
	line, err := m.newLine(gsi)
	if err != nil {
		return err
	}
	t, err := mmio.New(dev, m.mem, line, m.log)
	if err != nil {
		return err
	}
	m.onClose(t.Close)
	t.Measure(m.meter)
	if err := m.mmio.Add(addr, mmio.Size, t); err != nil {
		return err
	}
	for i, kick := range t.Kicks() {
		bell := kvm.IOEventFD{
			Addr: addr + mmio.QueueNotify, Len: 4, FD: kick.FD(),
			Flags: kvm.IOEventFDDatamatch, Datamatch: uint64(i),
		}
		if err := m.vm.IOEventFD(bell); err != nil {
			return fmt.Errorf("doorbell of queue %d: %w", i, err)
		}
	}
	m.virtio = append(m.virtio, t)
	return nil
}

func (m *Machine) serialOut() io.Writer {
	if m.cfg.Serial.Out == nil {
		return io.Discard
	}
	return m.cfg.Serial.Out
}

// startDevices starts what feeds the devices from the host. The virtio devices
// start when the guest's drivers do.
func (m *Machine) startDevices() {
	ctx, cancel := context.WithCancel(context.Background())
	m.stopFeeds = cancel
	if in := m.cfg.Serial.In; in != nil {
		m.feeds.Go(func() {
			if err := m.uart.Run(ctx, in); err != nil && ctx.Err() == nil {
				m.log.Warn("no more input for the serial port", "err", err)
			}
		})
	}
}

// stopDevices ends all that writes to guest memory or raises interrupts.
func (m *Machine) stopDevices() {
	m.stopFeeds()
	m.feeds.Wait()
	if m.watchdog != nil {
		m.watchdog.Close()
	}
	for _, t := range m.virtio {
		if err := t.Close(); err != nil {
			m.log.Warn("device did not stop cleanly", "err", err)
		}
	}
	if err := m.uart.Close(); err != nil {
		m.log.Warn("serial port", "err", err)
	}
}

// Vsock is the machine's vsock device: connections to and from the guest. It
// is nil for a machine without a CID.
func (m *Machine) Vsock() *vsock.Device { return m.vsock }

// ConsoleSize tells the guest the size of the terminal behind its console.
func (m *Machine) ConsoleSize(cols, rows uint16) {
	if m.console != nil {
		m.console.SetSize(cols, rows)
	}
}
