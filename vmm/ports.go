package vmm

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"warder/devices/virtio/console"
)

// A Port is a stream of bytes between a program in the guest and one of the host.
// In the guest it is a device /dev/vportNpM, whose name is in
// /sys/class/virtio-ports/vportNpM/name.
type Port struct {
	Name string
	// Terminal makes the port a console too: hvc1 and on, hvc0 where the machine
	// has no other.
	Terminal bool
	// Socket is the path of a Unix socket that is the port's host side: whoever
	// connects has it, one program after the other. The machine makes it, and
	// takes it away with itself. "" for none: see [Machine.Port].
	Socket string
}

func (c Config) validatePorts() (errs []error) {
	if len(c.Ports) > console.MaxPorts {
		errs = append(errs, fmt.Errorf("%d ports: give at most %d", len(c.Ports), console.MaxPorts))
	}
	taken := map[string]bool{}
	for _, p := range c.Ports {
		errs = append(errs, console.CheckName(p.Name))
		if taken[p.Name] {
			errs = append(errs, fmt.Errorf("port %q: the name is taken", p.Name))
		}
		taken[p.Name] = true
	}
	return errs
}

// addPorts adds the ports' device, and the sockets that lead to them.
func (m *Machine) addPorts() error {
	if len(m.cfg.Ports) == 0 {
		return nil
	}
	var ports []console.PortConfig
	for _, p := range m.cfg.Ports {
		ports = append(ports, console.PortConfig{Name: p.Name, Terminal: p.Terminal})
	}
	dev, err := console.NewMultiport(ports...)
	if err != nil {
		return err
	}
	m.ports = dev
	var serving sync.WaitGroup
	m.onClose(func() error { serving.Wait(); return nil })
	m.onClose(dev.Close)
	if err := m.addVirtio(dev); err != nil {
		return err
	}
	for _, p := range m.cfg.Ports {
		if p.Socket == "" {
			continue
		}
		l, err := ListenUnix(p.Socket)
		if errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("port %q: %s is there already, and somebody listens there or it is no socket", p.Name, p.Socket)
		}
		if err != nil {
			return fmt.Errorf("port %q: %w", p.Name, err)
		}
		m.onClose(l.Close)
		serving.Go(func() { m.servePort(l, dev.Port(p.Name)) })
	}
	return nil
}

// ListenUnix listens at a path. A socket that a process has left there that was
// killed is replaced: nobody listens on it.
func ListenUnix(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if !errors.Is(err, unix.EADDRINUSE) {
		return l, err
	}
	if st, e := os.Lstat(path); e != nil || st.Mode().Type() != os.ModeSocket {
		return nil, err
	}
	c, e := net.Dial("unix", path)
	if e == nil {
		c.Close()
	}
	if !errors.Is(e, unix.ECONNREFUSED) || os.Remove(path) != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

// servePort connects those who come to a port, one after the other, until l is
// closed.
func (m *Machine) servePort(l net.Listener, p *console.Port) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			var gone <-chan struct{}
			if gone, err = p.Connect(c); err == nil {
				<-gone
				continue
			}
		}
		m.log.Warn("connection to a port", "socket", l.Addr().String(), "err", err)
		if m.hasEnded() {
			return
		}
	}
}

// Port is the port of that name, nil if the machine has none.
func (m *Machine) Port(name string) *console.Port {
	if m.ports == nil {
		return nil
	}
	return m.ports.Port(name)
}
