package vmm

import (
	"fmt"
	"io"

	"warder/devices/virtio/blk"
)

// addDisk adds a disk with a queue a vCPU, so that each finds its own.
func (m *Machine) addDisk(d Disk) error {
	file, err := blk.OpenFile(d.Path, d.ReadOnly)
	if err != nil {
		return err
	}
	m.onClose(file.Close)
	var disk blk.Disk = file
	if d.Size != 0 {
		if d.Size > file.Size()-d.Offset {
			return fmt.Errorf("disk %s: it has %d bytes, and not %d at %d", d.Path, file.Size(), d.Size, d.Offset)
		}
		disk = io.NewSectionReader(file, d.Offset, d.Size)
	}
	dev := blk.New(blk.Config{
		Disk: disk, ReadOnly: d.ReadOnly, Serial: d.Serial,
		Queues: min(m.cfg.CPUs, blk.MaxQueues), Log: m.log.With("disk", d.Path),
	})
	m.disks = append(m.disks, dev)
	return m.addVirtio(dev)
}
