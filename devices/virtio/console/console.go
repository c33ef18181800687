// Package console is the virtio console (VIRTIO 1.2, section 5.3). [Device] has one
// port: hvc0 in the guest, a reader and a writer on the host. [Multiport] has ports
// with names, to which programs of the host connect.
package console

import (
	"context"
	"encoding/binary"
	"io"
	"sync"

	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// The queues of port 0 and the feature that gives the terminal's size.
const (
	receiveQueue  = 0
	transmitQueue = 1

	featureSize      = 1 << 0 // VIRTIO_CONSOLE_F_SIZE
	featureEmergency = 1 << 2 // VIRTIO_CONSOLE_F_EMERG_WRITE

	configEmergency = 8
	configSize      = 12
)

// Device is a console. What the host types waits until the guest has room for
// it, over resets of the device too; what the guest prints goes to the host's
// writer at once, and the guest waits for a slow one.
type Device struct {
	out   *output
	input *input // nil for a console without input

	mu         sync.Mutex
	cols, rows uint16
	changed    func()
}

// New makes a console that prints to out and, unless in is nil, types what in
// gives.
func New(in io.Reader, out io.Writer) *Device {
	d := &Device{out: newOutput(out)}
	if in != nil {
		d.input = newInput(in)
	}
	return d
}

// Close ends the reading of the host's input, and waits for a write of output that
// is under way, but not for long. A read that is under way ends when the reader
// lets it.
func (d *Device) Close() error {
	if d.input != nil {
		d.input.close()
	}
	return d.out.close()
}

// SetSize tells the guest the size of the terminal, in characters.
func (d *Device) SetSize(cols, rows uint16) {
	d.mu.Lock()
	d.cols, d.rows = cols, rows
	changed := d.changed
	d.mu.Unlock()
	if changed != nil {
		changed()
	}
}

// OnConfigChange implements virtio.ConfigNotifier.
func (d *Device) OnConfigChange(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed = f
}

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info {
	return virtio.Info{ID: virtio.IDConsole, Name: "console", Features: featureSize | featureEmergency, QueueMax: []uint16{64, 64}}
}

// ReadConfig implements virtio.Device: columns, then rows.
func (d *Device) ReadConfig(p []byte, off uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var config [configSize]byte
	binary.LittleEndian.PutUint16(config[0:], d.cols)
	binary.LittleEndian.PutUint16(config[2:], d.rows)
	clear(p)
	if off < configSize {
		copy(p, config[off:])
	}
}

// WriteConfig implements virtio.ConfigWriter: a character that a guest prints
// before it has a driver, or when that works no more. A vCPU waits, so that one
// which the host's side has no room for is lost.
func (d *Device) WriteConfig(p []byte, off uint64) {
	if off == configEmergency && len(p) > 0 {
		d.out.tryPrint(p[:1])
	}
}

// Run implements virtio.Device.
func (d *Device) Run(ctx context.Context, _ uint64, queues []*virtq.Queue) error {
	var loops []func(context.Context) error
	serve := func(f func(context.Context, *virtq.Queue) error, q *virtq.Queue) {
		if q != nil {
			loops = append(loops, func(ctx context.Context) error { return f(ctx, q) })
		}
	}
	serve(d.transmit, queues[transmitQueue])
	if d.input != nil {
		serve(d.receive, queues[receiveQueue])
	}
	return virtio.Serve(ctx, loops...)
}

// transmit prints what the guest sends.
func (d *Device) transmit(ctx context.Context, q *virtq.Queue) error {
	for {
		c, err := q.Next(ctx)
		if err != nil {
			return err
		}
		if err := d.out.print(ctx, c.Reader); err != nil {
			return err
		}
		if err := q.Push(c, 0); err != nil {
			return err
		}
	}
}

// receive gives the guest what the host types.
func (d *Device) receive(ctx context.Context, q *virtq.Queue) error {
	for {
		c, err := q.Next(ctx)
		if err != nil {
			return err
		}
		// A chain that is held while ctx ends goes with the queue.
		if err := d.input.wait(ctx); err != nil {
			return err
		}
		n, err := c.Writer.Write(d.input.take(c.Writer.Len()))
		if err != nil {
			return err
		}
		if err := q.Push(c, uint32(n)); err != nil {
			return err
		}
	}
}
