package vmm

import (
	"warder/devices/virtio/blk"
)

// addDisk adds a disk with a queue a vCPU, so that each finds its own.
func (m *Machine) addDisk(d Disk) error {
	file, err := blk.OpenFile(d.Path, d.ReadOnly)
	if err != nil {
		return err
	}
	m.onClose(file.Close)
	dev := blk.New(blk.Config{
		Disk: file, ReadOnly: d.ReadOnly, Serial: d.Serial,
		Queues: min(m.cfg.CPUs, blk.MaxQueues), Log: m.log.With("disk", d.Path),
	})
	m.disks = append(m.disks, dev)
	return m.addVirtio(dev)
}
