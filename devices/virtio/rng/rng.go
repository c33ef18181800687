// Package rng is the virtio entropy device (VIRTIO 1.2, section 5.4).
package rng

import (
	"context"
	"fmt"
	"io"

	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

// maxRead bounds what one request takes from the source: a guest that asks for
// megabytes is given less, as the device may, and asks again.
const maxRead = 4096

// Device hands out bytes of a source of randomness.
type Device struct{ source io.Reader }

// New makes a device of source, which must not block: crypto/rand.Reader.
func New(source io.Reader) *Device { return &Device{source} }

// Info implements virtio.Device.
func (d *Device) Info() virtio.Info {
	return virtio.Info{ID: virtio.IDEntropy, Name: "rng", QueueMax: []uint16{64}}
}

// ReadConfig implements virtio.Device: there is no configuration.
func (d *Device) ReadConfig(p []byte, _ uint64) { clear(p) }

// Run implements virtio.Device.
func (d *Device) Run(ctx context.Context, _ uint64, queues []*virtq.Queue) error {
	requests := queues[0]
	if requests == nil {
		return nil
	}
	var buf [maxRead]byte
	for {
		c, err := requests.Next(ctx)
		if err != nil {
			return err
		}
		p := buf[:min(len(buf), c.Writer.Len())]
		if _, err := io.ReadFull(d.source, p); err != nil {
			return fmt.Errorf("source of randomness: %w", err)
		}
		n, err := c.Writer.Write(p)
		if err != nil {
			return err
		}
		if err := requests.Push(c, uint32(n)); err != nil {
			return err
		}
	}
}
