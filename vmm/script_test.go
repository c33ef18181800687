package vmm_test

import (
	"encoding/binary"
	"math/rand/v2"

	"warder/devices/virtio/mmio"
	"warder/devices/virtio/virtqtest"
	"warder/vmm"
)

// A script is what a hostile guest does: it runs no driver, but stores and loads
// that the host has thought up, in memory and in registers, as fast as it can.
type script struct {
	steps   []byte
	devices int
	index   map[[2]int]uint16 // of the available ring, by device and queue
}

// A step is an address, a value and what to do with them, in 16 bytes.
type action uint32

const (
	store32 action = iota
	load32
	store16
	store8
	store64
	features // load a word, store what it has of the value's bits 16 bytes further on
	out      // amd64: the address is a port
	in
)

// Where a hostile guest has what: its script, then for each device queues and
// buffers.
const (
	attackScript  = attackRAM + 32<<20 // a vCPU's after the other
	scriptSpace   = 1 << 20
	attackCPUs    = 2 // at most: as many as the host has
	attackArena   = attackRAM + 40<<20
	arenaSize     = 512 << 10
	arenaQueue    = 16 << 10
	arenaBuffers  = 256 << 10
	bufferSize    = 4 << 10
	attackQueues  = 8  // that a device may have
	attackQueue   = 16 // descriptors
	scriptLength  = 60_000
	scriptStep    = 16
	availOffset   = 16 * attackQueue
	usedOffset    = 2 << 10
	attackMemory  = 64 << 20 // what rawMachine has
	statusRunning = virtqtest.StatusAcknowledge | virtqtest.StatusDriver | virtqtest.StatusFeaturesOK | virtqtest.StatusDriverOK
)

// scriptOf is where a vCPU's script is.
func scriptOf(cpu int) uint32 { return attackScript + uint32(cpu)*scriptSpace }

// newScript thinks up scriptLength steps of what a guest does to its devices.
func newScript(random *rand.Rand, devices int) []byte {
	s := &script{devices: devices, index: map[[2]int]uint16{}}
	for d := range devices {
		s.comeUp(random, d)
	}
	for len(s.steps) < scriptLength*scriptStep {
		d := random.IntN(devices)
		switch n := random.IntN(100); {
		case n < 6:
			s.comeUp(random, d)
		case n < 80:
			s.request(random, d, random.IntN(attackQueues))
		case n < 95:
			s.anything(random, d)
		default:
			s.platform(random)
		}
	}
	return s.steps[:scriptLength*scriptStep]
}

func (s *script) add(addr uint64, value uint32, a action) {
	s.steps = binary.LittleEndian.AppendUint64(s.steps, addr)
	s.steps = binary.LittleEndian.AppendUint32(s.steps, value)
	s.steps = binary.LittleEndian.AppendUint32(s.steps, uint32(a))
}

// width is a store of any width.
func width(random *rand.Rand) action {
	return []action{store32, store16, store8, store64, load32}[random.IntN(5)]
}

func (s *script) store(addr uint64, v uint32) { s.add(addr, v, store32) }

func register(device int, reg uint64) uint64 {
	return vmm.VirtioBase + uint64(device)*vmm.MMIOWindow + reg
}

func (s *script) put(device int, reg uint64, v uint32) { s.store(register(device, reg), v) }

func arena(device int) uint64 { return attackArena + uint64(device)*arenaSize }

func queueAt(device, queue int) uint64 { return arena(device) + uint64(queue)*arenaQueue }

// buffer is one of a device's buffers, or, now and then, another place.
func buffer(random *rand.Rand, device int) uint64 {
	switch n := random.IntN(400); {
	case n == 0: // what it is doing
		return attackScript + uint64(random.IntN(attackCPUs*scriptSpace))
	case n < 10:
		return queueAt(device, random.IntN(attackQueues)) + uint64(random.IntN(arenaQueue))
	case n < 20:
		return register(device, 0)
	case n < 30:
		return attackRAM + attackMemory - uint64(random.IntN(64))
	case n < 40:
		return random.Uint64()
	}
	return arena(device) + arenaBuffers + uint64(random.IntN((arenaSize-arenaBuffers)/bufferSize))*bufferSize
}

// comeUp brings a device up as a driver does, if perhaps with other features.
func (s *script) comeUp(random *rand.Rand, d int) {
	for _, status := range []uint32{0, 1, 3} {
		s.put(d, virtqtest.RegStatus, status)
	}
	mask := ^uint32(0)
	if random.IntN(4) == 0 {
		mask = random.Uint32() | random.Uint32()
	}
	for half := range uint32(2) {
		s.put(d, virtqtest.RegDeviceSel, half)
		s.put(d, virtqtest.RegDriverSel, half)
		s.add(register(d, virtqtest.RegDeviceFeatures), mask|half, features) // VERSION_1 stays
	}
	s.put(d, virtqtest.RegStatus, statusRunning&^virtqtest.StatusDriverOK)
	for q := range attackQueues {
		s.place(d, q, queueAt(d, q))
	}
	s.put(d, virtqtest.RegStatus, statusRunning)
}

// place puts a queue, with empty rings, where it is said to be.
func (s *script) place(d, q int, at uint64) {
	s.index[[2]int{d, q}] = 0
	s.store(at+availOffset, 0)
	s.store(at+usedOffset, 0)
	s.put(d, virtqtest.RegQueueSel, uint32(q))
	s.put(d, virtqtest.RegQueueSize, attackQueue)
	for _, part := range []struct{ reg, addr uint64 }{
		{virtqtest.RegQueueDesc, at}, {virtqtest.RegQueueAvail, at + availOffset}, {virtqtest.RegQueueUsed, at + usedOffset},
	} {
		s.put(d, part.reg, uint32(part.addr))
		s.put(d, part.reg+4, uint32(part.addr>>32))
	}
	s.put(d, virtqtest.RegQueueReady, 1)
}

// request makes a chain available that may be a request, and rings.
func (s *script) request(random *rand.Rand, d, q int) {
	at, index := queueAt(d, q), s.index[[2]int{d, q}]
	n := 2 + random.IntN(3)
	readable := 1 + random.IntN(n-1)
	if random.IntN(4) == 0 {
		readable = random.IntN(n + 1)
	}
	head := random.IntN(attackQueue - n)
	for i := range n {
		desc := at + uint64(head+i)*16
		addr := buffer(random, d)
		flags, length := uint32(0), []uint32{1, 16, 44, 44, 60, 64, 512, 4096, 1 << 16, random.Uint32()}[random.IntN(10)]
		if i >= readable {
			flags |= virtqtest.Write
		}
		if i < n-1 {
			flags |= virtqtest.Next
		}
		if random.IntN(100) == 0 {
			flags = random.Uint32N(16)
		}
		s.store(desc, uint32(addr))
		s.store(desc+4, uint32(addr>>32))
		s.store(desc+8, length)
		s.store(desc+12, flags|uint32(head+i+1)<<16)
	}
	s.add(at+availOffset+4+2*uint64(index%attackQueue), uint32(head), store16)
	s.add(at+availOffset+2, uint32(index+1), store16)
	s.index[[2]int{d, q}] = index + 1
	s.put(d, mmio.QueueNotify, uint32(q))
}

// anything does what no driver does.
func (s *script) anything(random *rand.Rand, d int) {
	switch random.IntN(8) {
	case 0:
		s.add(register(d, uint64(random.IntN(0x40))*4), random.Uint32(), width(random))
	case 1:
		s.put(d, virtqtest.RegQueueSel, random.Uint32N(attackQueues+1))
		s.put(d, virtqtest.RegQueueReady, random.Uint32N(2))
	case 2: // a queue elsewhere, where others may be
		s.place(d, random.IntN(attackQueues), arena(random.IntN(s.devices))+uint64(random.IntN(arenaSize-arenaQueue))&^15)
	case 3:
		s.put(d, virtqtest.RegStatus, random.Uint32N(256))
	case 4:
		s.add(register(d, virtqtest.RegConfig+uint64(random.IntN(0xf00))&^7), random.Uint32(), width(random))
	case 5:
		for range 1 + random.IntN(50) {
			s.put(d, mmio.QueueNotify, random.Uint32N(attackQueues))
		}
	case 6:
		q := random.IntN(attackQueues)
		s.add(queueAt(d, q)+availOffset+2, random.Uint32(), store16)
		s.put(d, mmio.QueueNotify, uint32(q))
	case 7:
		s.add(queueAt(d, random.IntN(attackQueues))+uint64(random.IntN(usedOffset))&^7, random.Uint32(), width(random))
	}
}

// buffers fills the memory that requests refer to with what devices may take for the
// beginning of one.
func buffers(random *rand.Rand) []byte {
	b := make([]byte, arenaSize-arenaBuffers)
	for p := b; len(p) > 0; p = p[bufferSize:] {
		for i := range 64 {
			p[i] = byte(random.Uint32())
		}
		le := binary.LittleEndian
		switch random.IntN(4) {
		case 0: // a disk's request
			le.PutUint32(p, []uint32{0, 1, 4, 8, 11, 13}[random.IntN(6)])
			le.PutUint64(p[8:], random.Uint64N(130))
		case 1: // a file system's
			le.PutUint32(p, 40+random.Uint32N(100))
			le.PutUint32(p[4:], []uint32{1, 3, 9, 14, 15, 16, 26, 26, 26, 27, 28, 35, 44}[random.IntN(13)])
			le.PutUint64(p[16:], 1+random.Uint64N(4))
			copy(p[40:], "\x07\x00\x00\x00\x26\x00\x00\x00name")
		case 2: // a packet of vsock
			le.PutUint64(p, attackCID)
			le.PutUint64(p[8:], 2)
			le.PutUint32(p[16:], random.Uint32N(8))
			le.PutUint32(p[20:], random.Uint32N(8))
			le.PutUint32(p[24:], random.Uint32N(64))
			le.PutUint32(p[28:], 1|(1+random.Uint32N(7))<<16)
			le.PutUint32(p[36:], 1<<16)
		case 3: // a frame without offloads
			clear(p[:12])
		}
	}
	return b
}
