package mmio

import (
	"encoding/binary"

	"warder/devices/virtio"
)

// QueueNotify is the offset of the doorbell: 4 bytes, the queue's number.
const QueueNotify = 0x50

// Register offsets, section 4.2.2.
const (
	regMagic            = 0x000
	regVersion          = 0x004
	regDeviceID         = 0x008
	regVendorID         = 0x00c
	regDeviceFeatures   = 0x010
	regDeviceSel        = 0x014
	regDriverFeatures   = 0x020
	regDriverSel        = 0x024
	regQueueSel         = 0x030
	regQueueSizeMax     = 0x034
	regQueueSize        = 0x038
	regQueueReady       = 0x044
	regInterruptStatus  = 0x060
	regInterruptACK     = 0x064
	regStatus           = 0x070
	regQueueDescLow     = 0x080
	regQueueDescHigh    = 0x084
	regQueueDriverLow   = 0x090
	regQueueDriverHigh  = 0x094
	regQueueDeviceLow   = 0x0a0
	regQueueDeviceHigh  = 0x0a4
	regSHMLenLow        = 0x0b0
	regSHMBaseHigh      = 0x0bc
	regConfigGeneration = 0x0fc
	regConfig           = 0x100
)

const (
	magic    = 0x74726976 // "virt"
	version  = 2
	vendorID = 0x44524157 // "WARD"
)

// Read implements bus.Device. Registers are read by aligned words of 4 bytes,
// the configuration space by any width.
func (t *Transport) Read(off uint64, p []byte) {
	if off >= regConfig {
		t.config.read(p, off-regConfig)
		return
	}
	clear(p)
	if len(p) == 4 && off%4 == 0 {
		binary.LittleEndian.PutUint32(p, t.readRegister(off))
	}
}

// Write implements bus.Device.
func (t *Transport) Write(off uint64, p []byte) {
	if off >= regConfig {
		if w, ok := t.dev.(virtio.ConfigWriter); ok {
			w.WriteConfig(p, off-regConfig)
			t.config.load(t.dev)
		}
		return
	}
	if len(p) == 4 && off%4 == 0 {
		t.writeRegister(off, binary.LittleEndian.Uint32(p))
	}
}

func (t *Transport) readRegister(off uint64) uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch off {
	case regMagic:
		return magic
	case regVersion:
		return version
	case regDeviceID:
		return t.info.ID
	case regVendorID:
		return vendorID
	case regDeviceFeatures:
		return half(t.offered(), t.deviceSel)
	case regQueueSizeMax:
		if t.queueSel < uint32(len(t.queues)) {
			return uint32(t.info.QueueMax[t.queueSel])
		}
	case regQueueReady:
		if t.queueSel < uint32(len(t.queues)) && t.queues[t.queueSel].queue != nil {
			return 1
		}
	case regInterruptStatus:
		return t.interrupts.Load()
	case regStatus:
		if t.needsReset.Load() {
			return t.status | statusNeedsReset
		}
		return t.status
	case regConfigGeneration:
		return t.config.gen()
	}
	if off >= regSHMLenLow && off <= regSHMBaseHigh {
		return ^uint32(0) // there is no shared memory region: its length is -1
	}
	return 0
}

// half is the low or high word of a set of features; there are no more.
func half(features uint64, sel uint32) uint32 {
	switch sel {
	case 0:
		return uint32(features)
	case 1:
		return uint32(features >> 32)
	}
	return 0
}

func (t *Transport) writeRegister(off uint64, v uint32) {
	if off == QueueNotify {
		t.notify(v)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	switch off {
	case regDeviceSel:
		t.deviceSel = v
	case regDriverSel:
		t.driverSel = v
	case regDriverFeatures:
		if t.status&statusFeaturesOK == 0 {
			t.setDriverFeatures(v)
		}
	case regQueueSel:
		t.queueSel = v
	case regInterruptACK:
		t.interrupts.And(^v)
	case regStatus:
		t.setStatus(v)
	case regQueueReady:
		switch i := int(t.queueSel); {
		case t.queueSel >= uint32(len(t.queues)):
		case v == 0:
			t.unready(i)
		case v == 1:
			t.ready(i)
		}
	default:
		t.writeQueue(off, v)
	}
}

func (t *Transport) setDriverFeatures(v uint32) {
	switch t.driverSel {
	case 0:
		t.driverFeatures = t.driverFeatures&^0xffff_ffff | uint64(v)
	case 1:
		t.driverFeatures = t.driverFeatures&0xffff_ffff | uint64(v)<<32
	}
}

// writeQueue is a write to a register of the selected queue, which may be set
// as long as the queue is not ready.
func (t *Transport) writeQueue(off uint64, v uint32) {
	if t.queueSel >= uint32(len(t.queues)) {
		return
	}
	q := &t.queues[t.queueSel]
	if q.queue != nil {
		return
	}
	switch off {
	case regQueueSize:
		q.size = v
	case regQueueDescLow:
		setLow(&q.desc, v)
	case regQueueDescHigh:
		setHigh(&q.desc, v)
	case regQueueDriverLow:
		setLow(&q.avail, v)
	case regQueueDriverHigh:
		setHigh(&q.avail, v)
	case regQueueDeviceLow:
		setLow(&q.used, v)
	case regQueueDeviceHigh:
		setHigh(&q.used, v)
	}
}

func setLow(x *uint64, v uint32)  { *x = *x&^0xffff_ffff | uint64(v) }
func setHigh(x *uint64, v uint32) { *x = *x&0xffff_ffff | uint64(v)<<32 }

// notify is a doorbell that no ioeventfd took.
func (t *Transport) notify(queue uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if queue >= uint32(len(t.kicks)) {
		return
	}
	t.stats.notifyExits.Add(1)
	if err := t.kicks[queue].Signal(); err != nil {
		t.log.warn("doorbell lost", err)
	}
}
