package console

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// MaxPorts bounds the ports of a device, each of which has two queues.
const MaxPorts = 15

// MaxName bounds the name of a port in bytes, as udev does for a file's.
const MaxName = 64

const (
	featureMultiport = 1 << 1 // VIRTIO_CONSOLE_F_MULTIPORT

	controlReceive  = 2
	controlTransmit = 3
)

// PortConfig is a port as the guest sees it.
type PortConfig struct {
	Name     string // in /sys/class/virtio-ports/*/name
	Terminal bool   // a console too: hvc1 and on
}

// Multiport is a console with several ports, which have names and may be
// terminals or plain streams of bytes. Programs on the host come and go. It is a
// device besides [Device], whose one terminal is of the right size with any
// driver: see [Port.SetSize].
type Multiport struct {
	ports []*Port
	news  chan struct{}
}

// NewMultiport makes a device with these ports, 1 to [MaxPorts].
func NewMultiport(ports ...PortConfig) (*Multiport, error) {
	if len(ports) == 0 || len(ports) > MaxPorts {
		return nil, fmt.Errorf("console: %d ports: give 1 to %d", len(ports), MaxPorts)
	}
	d := &Multiport{news: make(chan struct{}, 1)}
	for _, c := range ports {
		if err := CheckName(c.Name); err != nil {
			return nil, err
		}
		if d.Port(c.Name) != nil {
			return nil, fmt.Errorf("console: two ports with the name %q", c.Name)
		}
		d.ports = append(d.ports, &Port{name: c.Name, terminal: c.Terminal, news: d.news, changed: make(chan struct{})})
	}
	return d, nil
}

// CheckName says what is wrong with the name of a port, which is a file's in the
// guest.
func CheckName(name string) error {
	if name == "" || len(name) > MaxName || name == "." || name == ".." {
		return fmt.Errorf("console: port %q: a name has 1 to %d bytes", name, MaxName)
	}
	for _, r := range name {
		if r <= ' ' || r == '/' || r > '~' {
			return fmt.Errorf("console: port %q: a name has no %q", name, r)
		}
	}
	return nil
}

// Port is the port of that name, nil if there is none.
func (d *Multiport) Port(name string) *Port {
	for _, p := range d.ports {
		if p.name == name {
			return p
		}
	}
	return nil
}

// Close ends all connections, and waits for a write to them that is under way, but
// not for long.
func (d *Multiport) Close() error {
	var errs []error
	for _, p := range d.ports {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}

// Info implements virtio.Device. Linux takes the size of a port's terminal only from
// a device that has sizes in its configuration space as well.
func (d *Multiport) Info() virtio.Info {
	info := virtio.Info{ID: virtio.IDConsole, Name: "ports", Features: featureSize | featureMultiport}
	for range 2 + 2*len(d.ports) {
		info.QueueMax = append(info.QueueMax, 64)
	}
	return info
}

// ReadConfig implements virtio.Device: columns and rows of the first port, which a
// driver that knows of no ports has, and the number of ports.
func (d *Multiport) ReadConfig(p []byte, off uint64) {
	cols, rows := d.ports[0].size()
	config := binary.LittleEndian.AppendUint16(nil, cols)
	config = binary.LittleEndian.AppendUint16(config, rows)
	config = binary.LittleEndian.AppendUint32(config, uint32(len(d.ports)))
	clear(p)
	if off < uint64(len(config)) {
		copy(p, config[off:])
	}
}

// OnConfigChange implements virtio.ConfigNotifier.
func (d *Multiport) OnConfigChange(f func()) {
	p := d.ports[0]
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resized = f
}

// portQueue is the first of port i's two queues, section 5.3.2.
func portQueue(i int) int {
	if i == 0 {
		return receiveQueue
	}
	return 2 + 2*i
}

// Run implements virtio.Device.
func (d *Multiport) Run(ctx context.Context, features uint64, queues []*virtq.Queue) error {
	multiport := features&featureMultiport != 0
	ports := d.ports
	if !multiport {
		ports = ports[:1] // all that the driver knows of
	}
	var loops []func(context.Context) error
	serve := func(f func(context.Context, *virtq.Queue) error, q *virtq.Queue) {
		if q != nil {
			loops = append(loops, func(ctx context.Context) error { return f(ctx, q) })
		}
	}
	for _, p := range d.ports {
		p.restart(!multiport)
	}
	for i, p := range ports {
		serve(p.receive, queues[portQueue(i)])
		serve(p.transmit, queues[portQueue(i)+1])
	}
	if multiport {
		serve(d.tell, queues[controlReceive])
		serve(d.hear, queues[controlTransmit])
	}
	return virtio.Serve(ctx, loops...)
}

var _ virtio.Device = (*Multiport)(nil)
