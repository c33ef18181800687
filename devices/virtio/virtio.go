// Package virtio is the agreement of virtio devices with their transport: the
// part of a device that its author writes, device numbers, feature bits.
//
// Source: Virtual I/O Device (VIRTIO) Version 1.2, OASIS.
package virtio

import (
	"context"

	"warder/devices/virtio/virtq"
)

// Device is the part of a virtio device that its author writes. The transport
// owns feature negotiation, queue set-up, config generation, reset and
// interrupts.
type Device interface {
	// Info is what the device is. It never changes.
	Info() Info
	// ReadConfig fills p from the device's configuration space at offset off,
	// with zeros beyond its end. The transport takes a copy when it is made and
	// after each change; drivers read that.
	ReadConfig(p []byte, off uint64)
	// Run serves the queues from the moment the driver is ready until ctx ends,
	// and returns promptly then: a vCPU waits for it in a reset. It is called
	// again after the next. A queue that the driver left unused is nil. Any error
	// but ctx's means that the device can't go on, and the guest is told that it
	// needs a reset.
	Run(ctx context.Context, features uint64, queues []*virtq.Queue) error
}

// Info is what a device is.
type Info struct {
	ID       uint32   // one of the ID constants
	Name     string   // for people: "blk"
	Features uint64   // offered to the driver, besides the transport's own
	QueueMax []uint16 // size of each queue, a power of two up to virtq.MaxSize
}

// ConfigWriter is a device whose configuration space the driver may write.
type ConfigWriter interface {
	// WriteConfig takes p at offset off. What can't be written is ignored.
	WriteConfig(p []byte, off uint64)
}

// ConfigNotifier is a device whose configuration changes while it runs.
type ConfigNotifier interface {
	// OnConfigChange sets the function that the device calls, from any
	// goroutine, after each change. It calls ReadConfig.
	OnConfigChange(func())
}

// Device numbers, section 5.
const (
	IDNet     = 1
	IDBlock   = 2
	IDConsole = 3
	IDEntropy = 4
	IDBalloon = 5
	IDVsock   = 19
	IDMem     = 24
	IDFS      = 26
	IDPmem    = 27
)

// Feature bits that are not of one device type, section 6.
const (
	FIndirectDesc = 1 << 28
	FEventIdx     = 1 << 29
	FVersion1     = 1 << 32
	// FAccessPlatform would say that the device is limited to what an IOMMU
	// lets it reach; it is never offered.
	FAccessPlatform = 1 << 33
)
