package mmio

import (
	"sync"

	"warder/devices/virtio"
)

// configSize bounds the configuration space, in bytes. No device of the
// specification has more.
const configSize = 256

// config is the configuration space as the driver sees it: a copy, which is
// replaced together with its generation. So a driver that reads it in several
// accesses, with the same generation before and after, has read one state of it
// (section 2.5.3), whenever the device changes what it has.
type config struct {
	mu         sync.Mutex
	bytes      [configSize]byte
	generation uint32
}

// load takes the device's configuration over.
func (c *config) load(dev virtio.Device) {
	c.mu.Lock()
	defer c.mu.Unlock()
	dev.ReadConfig(c.bytes[:], 0)
	c.generation++
}

// read fills p from offset off, with zeros beyond the end.
func (c *config) read(p []byte, off uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(p)
	if off < configSize {
		copy(p, c.bytes[off:])
	}
}

func (c *config) gen() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.generation
}
