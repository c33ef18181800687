package blk

import (
	"encoding/binary"
	"math/bits"

	"warder/devices/virtio"
)

// Features, section 5.2.3.
const (
	featureSegMax    = 1 << 2  // VIRTIO_BLK_F_SEG_MAX
	featureReadOnly  = 1 << 5  // VIRTIO_BLK_F_RO
	featureBlkSize   = 1 << 6  // VIRTIO_BLK_F_BLK_SIZE
	featureFlush     = 1 << 9  // VIRTIO_BLK_F_FLUSH
	featureTopology  = 1 << 10 // VIRTIO_BLK_F_TOPOLOGY
	featureConfigWCE = 1 << 11 // VIRTIO_BLK_F_CONFIG_WCE
	featureMQ        = 1 << 12 // VIRTIO_BLK_F_MQ
	featureDiscard   = 1 << 13 // VIRTIO_BLK_F_DISCARD
	featureZeroes    = 1 << 14 // VIRTIO_BLK_F_WRITE_ZEROES
)

// The configuration's layout, section 5.2.4.
const (
	configCapacity      = 0
	configSegMax        = 12
	configBlkSize       = 20
	configPhysicalExp   = 24
	configMinIO         = 26
	configWriteback     = 32
	configQueues        = 34
	configMaxDiscard    = 36
	configDiscardSegs   = 40
	configDiscardAlign  = 44
	configMaxZeroes     = 48
	configZeroesSegs    = 52
	configZeroesMayDrop = 56
	configSize          = 60
)

// Limits of one request to discard or to zero: what is zeroed may have to be
// written. Many small discards by one request are what makes trimming fast.
const (
	maxDiscard     = 1 << 21 // sectors in a segment: 1 GiB
	maxDiscardSegs = 64
	maxZeroes      = 1 << 17 // sectors in a segment: 64 MiB
	maxZeroesSegs  = 1
)

func (d *Device) offered() uint64 {
	features := uint64(featureSegMax | featureBlkSize)
	if d.writer == nil {
		features |= featureReadOnly
	} else if _, ok := d.cfg.Disk.(Syncer); ok {
		features |= featureFlush | featureConfigWCE
	}
	if d.discarder != nil {
		features |= featureDiscard | featureZeroes
	}
	if d.blockExp() > 0 {
		features |= featureTopology
	}
	if d.cfg.Queues > 1 {
		features |= featureMQ
	}
	return features
}

// maxBlockExp bounds what a guest is told of a disk's blocks: 64 KiB.
const maxBlockExp = 7

// blockExp is how many sectors the disk's blocks have, as a power of two.
func (d *Device) blockExp() int {
	b, ok := d.cfg.Disk.(Blocked)
	if !ok {
		return 0
	}
	return min(max(bits.Len(uint(max(b.BlockSize(), 0))/SectorSize)-1, 0), maxBlockExp)
}

// ReadConfig implements virtio.Device.
func (d *Device) ReadConfig(p []byte, off uint64) {
	var c [configSize]byte
	le := binary.LittleEndian
	le.PutUint64(c[configCapacity:], d.sectors)
	le.PutUint32(c[configSegMax:], segMax)
	le.PutUint32(c[configBlkSize:], SectorSize)
	c[configPhysicalExp] = byte(d.blockExp())
	le.PutUint16(c[configMinIO:], 1<<d.blockExp())
	if !d.writeThrough.Load() {
		c[configWriteback] = 1
	}
	le.PutUint16(c[configQueues:], uint16(d.cfg.Queues))
	if d.discarder != nil {
		le.PutUint32(c[configMaxDiscard:], maxDiscard)
		le.PutUint32(c[configDiscardSegs:], maxDiscardSegs)
		le.PutUint32(c[configDiscardAlign:], 1<<d.blockExp())
		le.PutUint32(c[configMaxZeroes:], maxZeroes)
		le.PutUint32(c[configZeroesSegs:], maxZeroesSegs)
		c[configZeroesMayDrop] = 1
	}
	clear(p)
	if off < configSize {
		copy(p, c[off:])
	}
}

// WriteConfig implements virtio.ConfigWriter: the driver chooses whether the
// disk's cache is for writes too.
func (d *Device) WriteConfig(p []byte, off uint64) {
	if off == configWriteback && len(p) == 1 {
		d.writeThrough.Store(p[0] == 0)
	}
}

// durable reports whether each write has to be, before it is answered: for a driver
// that does not flush, or that has said so (section 5.2.6.2).
func (d *Device) durable() bool {
	features := d.features.Load()
	if features&featureConfigWCE != 0 {
		return d.writeThrough.Load()
	}
	return features&featureFlush == 0
}

var (
	_ virtio.Device       = (*Device)(nil)
	_ virtio.ConfigWriter = (*Device)(nil)
)
