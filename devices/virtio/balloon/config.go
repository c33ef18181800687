package balloon

import (
	"encoding/binary"
	"math"
)

// config is struct virtio_balloon_config, section 5.5.4, four words in
// little-endian order. The host writes the first, the driver the second and the
// last; the third is for a feature that is not offered.
type config struct {
	target uint32 // num_pages
	actual uint32
	poison uint32 // poison_val
}

const configSize = 16

func (c config) bytes() []byte {
	b := make([]byte, configSize)
	binary.LittleEndian.PutUint32(b[0:], c.target)
	binary.LittleEndian.PutUint32(b[4:], c.actual)
	binary.LittleEndian.PutUint32(b[12:], c.poison)
	return b
}

// ReadConfig implements virtio.Device.
func (d *Device) ReadConfig(p []byte, off uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(p)
	if off < configSize {
		copy(p, d.config.bytes()[off:])
	}
}

// WriteConfig implements virtio.ConfigWriter.
func (d *Device) WriteConfig(p []byte, off uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if off >= configSize {
		return
	}
	b := d.config.bytes()
	copy(b[off:], p)
	d.config.actual = binary.LittleEndian.Uint32(b[4:])
	d.config.poison = binary.LittleEndian.Uint32(b[12:])
}

// OnConfigChange implements virtio.ConfigNotifier.
func (d *Device) OnConfigChange(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed = f
}

// SetTarget asks the driver for a balloon of so many bytes, in whole pages. The
// driver gets there as fast as it can, if it can, and when there is one.
func (d *Device) SetTarget(bytes uint64) {
	d.mu.Lock()
	d.config.target = uint32(min(bytes/PageSize, math.MaxUint32))
	changed := d.changed
	d.mu.Unlock()
	if changed != nil {
		changed()
	}
}

func (d *Device) poison() uint32 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config.poison
}
