package power

import (
	"sync"
	"time"

	"warder/devices/irq"
)

// PL061Size is the length in bytes of the PL061's MMIO registers.
const PL061Size = 0x1000

// keyHold is for how long Press keeps the key down: drivers debounce keys for
// some milliseconds, then look at the line.
const keyHold = 100 * time.Millisecond

// PL061 registers by offset, 8 bits each in the low byte of a word (Arm DDI
// 0190B, table 3-1).
const (
	pl061Data  = 0x000 // to 0x3fc: address bits 9:2 choose the lines
	pl061Dir   = 0x400 // 1 is output
	pl061IS    = 0x404 // 1 senses levels
	pl061IBE   = 0x408 // 1 senses both edges
	pl061IEV   = 0x40c // 1 senses rising edges or high levels
	pl061IE    = 0x410 // 1 unmasks
	pl061RIS   = 0x414
	pl061MIS   = 0x418
	pl061IC    = 0x41c // written: clears edges
	pl061AFSEL = 0x420
	pl061ID    = 0xfe0
)

// pl061IDs are PeriphID0 to PeriphID3, then PCellID0 to PCellID3: part 0x061 by
// Arm, revision 0.
var pl061IDs = [8]byte{0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1}

// PL061 is Arm's PrimeCell GPIO with a key on one of its eight lines, high while
// it is down. It is a bus.Device of PL061Size bytes, safe for concurrent use.
//
// Its one interrupt is edge-triggered: the line is pulsed when an unmasked line
// comes to interrupt, and again if one still does when the guest has cleared
// some, so that a driver that looks once an interrupt misses none.
type PL061 struct {
	line irq.Line
	key  byte // the key's line, as a bit

	mu    sync.Mutex
	in    byte // what the outside drives
	out   byte // what the guest drives
	dir   byte
	level byte
	both  byte
	high  byte
	mask  byte
	edges byte // latched, of lines that sense edges
	afsel byte
	up    *time.Timer // lets the key go; nil before the first press
	// closed says that the line is gone: no interrupt any more.
	closed bool
}

// NewPL061 returns a GPIO with the key on line keyLine, which is 0 to 7.
func NewPL061(line irq.Line, keyLine int) *PL061 {
	return &PL061{line: line, key: 1 << (keyLine & 7)}
}

// Press presses the key for keyHold. Pressed again before that, it stays down
// for longer.
func (g *PL061) Press() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.up != nil {
		g.up.Stop()
	}
	g.up = time.AfterFunc(keyHold, g.release)
	return g.drive(g.in | g.key)
}

// Close lets go of the interrupt line.
func (g *PL061) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.up != nil {
		g.up.Stop()
	}
	return nil
}

func (g *PL061) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	// Nobody waits for the falling edge: whoever pressed has had the error
	// of a broken line already.
	_ = g.drive(g.in &^ g.key)
}

// Read implements bus.Device.
func (g *PL061) Read(off uint64, p []byte) {
	clear(p)
	if off%4 != 0 || len(p) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p[0] = g.register(off)
}

// Write implements bus.Device.
func (g *PL061) Write(off uint64, p []byte) {
	if off%4 != 0 || len(p) == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.pending()
	switch v := p[0]; off {
	case pl061Dir:
		g.setLines(func() { g.dir = v })
	case pl061IS:
		g.level = v
	case pl061IBE:
		g.both = v
	case pl061IEV:
		g.high = v
	case pl061IE:
		g.mask = v
	case pl061IC:
		g.edges &^= v
		before = 0
	case pl061AFSEL:
		g.afsel = v
	default:
		if off < pl061Dir {
			chosen := byte(off >> 2)
			g.setLines(func() { g.out = g.out&^chosen | v&chosen })
		}
	}
	// The guest cannot be told that its own interrupt failed.
	_ = g.interrupt(before)
}

func (g *PL061) register(off uint64) byte {
	switch off {
	case pl061Dir:
		return g.dir
	case pl061IS:
		return g.level
	case pl061IBE:
		return g.both
	case pl061IEV:
		return g.high
	case pl061IE:
		return g.mask
	case pl061RIS:
		return g.raw()
	case pl061MIS:
		return g.pending()
	case pl061AFSEL:
		return g.afsel
	}
	switch {
	case off < pl061Dir:
		return g.lines() & byte(off>>2)
	case off >= pl061ID && off < PL061Size:
		return pl061IDs[(off-pl061ID)/4]
	}
	return 0
}

// lines returns the state of the eight lines.
func (g *PL061) lines() byte { return g.out&g.dir | g.in&^g.dir }

// raw returns the lines that interrupt, masked or not.
func (g *PL061) raw() byte {
	active := ^(g.lines() ^ g.high)
	return g.edges&^g.level | active&g.level
}

// pending returns the lines that interrupt and are unmasked.
func (g *PL061) pending() byte { return g.raw() & g.mask }

// setLines makes a change that may move lines, and latches the edges.
func (g *PL061) setLines(change func()) {
	before := g.lines()
	change()
	after := g.lines()
	rose, fell := after&^before, before&^after
	g.edges |= (rose&(g.high|g.both) | fell&(^g.high|g.both)) &^ g.level
}

// drive sets the lines from outside.
func (g *PL061) drive(in byte) error {
	before := g.pending()
	g.setLines(func() { g.in = in })
	return g.interrupt(before)
}

// interrupt pulses the line if more is pending than before.
func (g *PL061) interrupt(before byte) error {
	if g.pending()&^before == 0 || g.closed {
		return nil
	}
	return g.line.Pulse()
}
