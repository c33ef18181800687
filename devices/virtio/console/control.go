package console

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// struct virtio_console_control, section 5.3.6.2: port, event, value.
const controlSize = 8

// Events of control messages.
const (
	eventDeviceReady = 0
	eventPortAdd     = 1
	eventPortReady   = 3
	eventConsolePort = 4
	eventResize      = 5
	eventPortOpen    = 6
	eventPortName    = 7
)

// owed is what the driver is still to be told of a port. That, and not a queue of
// messages, is what waits for the driver: it bounds what a driver can have us
// keep by asking again and again.
type owed uint8

const (
	owedAdd owed = 1 << iota
	owedConsole
	owedName
	owedSize
	owedOpen
)

// hear takes what the driver says.
func (d *Multiport) hear(ctx context.Context, q *virtq.Queue) error {
	for {
		c, err := q.Next(ctx)
		if err != nil {
			return err
		}
		var m [controlSize]byte
		if _, err := io.ReadFull(c.Reader, m[:]); err == nil {
			d.heard(binary.LittleEndian.Uint32(m[0:]), binary.LittleEndian.Uint16(m[4:]), binary.LittleEndian.Uint16(m[6:]))
		}
		if err := q.Push(c, 0); err != nil {
			return err
		}
	}
}

// heard carries out a message of the driver. One that makes no sense is ignored.
func (d *Multiport) heard(port uint32, event, value uint16) {
	if event == eventDeviceReady && value == 1 {
		for _, p := range d.ports {
			p.owe(owedAdd)
		}
		return
	}
	if port >= uint32(len(d.ports)) {
		return
	}
	switch p := d.ports[port]; event {
	case eventPortReady:
		if value == 1 {
			p.found()
		}
	case eventPortOpen:
		p.setOpen(value != 0)
	}
}

// tell says to the driver what is owed, as it has room for it.
func (d *Multiport) tell(ctx context.Context, q *virtq.Queue) error {
	for {
		if !d.hasOwed() {
			if _, err := virtio.Await(ctx, d.news); err != nil {
				return err
			}
			continue
		}
		c, err := q.Next(ctx)
		if err != nil {
			return err
		}
		m := d.message()
		n, err := c.Writer.Write(m)
		if errors.Is(err, virtq.ErrShort) {
			err = fmt.Errorf("%w: no room for a control message of %d bytes", virtq.ErrMalformed, len(m))
		}
		if err != nil {
			return err
		}
		if err := q.Push(c, uint32(n)); err != nil {
			return err
		}
	}
}

func (d *Multiport) hasOwed() bool {
	for _, p := range d.ports {
		if p.isOwed() {
			return true
		}
	}
	return false
}

// message is the next to tell, which is owed no longer. It is empty if nothing is.
func (d *Multiport) message() []byte {
	for i, p := range d.ports {
		if event, value, more := p.pay(); event != 0 {
			m := binary.LittleEndian.AppendUint32(nil, uint32(i))
			m = binary.LittleEndian.AppendUint16(m, event)
			m = binary.LittleEndian.AppendUint16(m, value)
			return append(m, more...)
		}
	}
	return nil
}
