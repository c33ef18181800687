package serial

import (
	"io"
	"sync"

	"warder/devices/irq"
)

// Size is the length in bytes of the register block, on ports and in MMIO (one
// byte a register, reg-shift 0).
const Size = 8

// fifoSize is the depth of the receive FIFO and the number of bytes that a
// driver may write after one look at LSR.THRE.
const fifoSize = 16

// Registers by offset; some share one, told apart by direction or by LCR.DLAB.
const (
	regData = 0 // RBR on read, THR on write; divisor latch low with DLAB
	regIER  = 1 // divisor latch high with DLAB
	regIIR  = 2 // FCR on write
	regLCR  = 3
	regMCR  = 4
	regLSR  = 5
	regMSR  = 6
	regSCR  = 7
)

const (
	ierRDI  = 1 << 0 // received data
	ierTHRI = 1 << 1 // transmit holding register empty
	ierRLSI = 1 << 2 // receiver line status
	ierMask = 0x0f   // with the modem status', which never changes

	iirNone    = 0x01
	iirTHRI    = 0x02
	iirRDI     = 0x04
	iirRLSI    = 0x06
	iirTimeout = 0x0c // data below the trigger level, and no more came
	iirFIFO    = 0xc0

	fcrEnable  = 1 << 0
	fcrClearRX = 1 << 1

	lcrDLAB = 1 << 7

	mcrDTR  = 1 << 0
	mcrRTS  = 1 << 1
	mcrOut1 = 1 << 2
	mcrOut2 = 1 << 3
	mcrLoop = 1 << 4
	mcrMask = 0x1f

	lsrDR   = 1 << 0
	lsrOE   = 1 << 1
	lsrTHRE = 1 << 5
	lsrTEMT = 1 << 6

	msrCTS = 1 << 4
	msrDSR = 1 << 5
	msrRI  = 1 << 6
	msrDCD = 1 << 7
)

// triggerLevels are the receive FIFO's, by FCR bits 7:6.
var triggerLevels = [4]int{1, 4, 8, 14}

// UART is a 16550A. It is a bus.Device of Size bytes, safe for concurrent use.
type UART struct {
	line irq.Line
	tx   *transmitter

	mu      sync.Mutex
	rx      fifo
	rxRoom  chan struct{} // holds a token once the guest may take more input
	ier     byte
	fcr     byte
	lcr     byte
	mcr     byte
	scr     byte
	divisor uint16
	overrun bool
	thrDue  bool // THR became empty and the guest was not told yet
	raised  byte // the causes that the line was last pulsed for, as IER bits
	stats   Stats
	closed  bool // the line is gone: no interrupt any more
}

// Stats counts what passed through since New, in bytes.
type Stats struct {
	Received uint64 // given to the guest
	Sent     uint64 // taken by the host's writer
	Dropped  uint64 // written by the guest while the transmitter was busy, or refused by the writer
	Err      error  // the latest failure of the writer or of the interrupt line
}

// New returns a UART that writes to out and interrupts through line. Close it to
// flush the output.
func New(out io.Writer, line irq.Line) *UART {
	u := &UART{
		line:   line,
		rxRoom: make(chan struct{}, 1),
		// 115200 baud by the PC's 1.8432 MHz clock.
		divisor: 1,
		thrDue:  true,
	}
	u.tx = newTransmitter(out, u.transmitted)
	return u
}

// Close waits until the host's writer has taken all output or made no progress
// for flushPatience ([ErrNotFlushed]). Afterwards the UART neither writes nor
// interrupts; bytes that the guest writes are dropped.
func (u *UART) Close() error {
	err := u.tx.close()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed = true
	return err
}

// Stats returns the counters.
func (u *UART) Stats() Stats {
	u.mu.Lock()
	s := u.stats
	u.mu.Unlock()
	t := u.tx.stats()
	s.Sent, s.Dropped = t.Sent, t.Dropped
	if t.Err != nil {
		s.Err = t.Err
	}
	return s
}

// Read implements bus.Device. The registers are 8 bits wide: a wider access
// touches consecutive registers, and reads 0 past the last.
func (u *UART) Read(off uint64, p []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range p {
		p[i] = u.readRegister(off + uint64(i))
	}
	u.interrupt()
}

// Write implements bus.Device.
func (u *UART) Write(off uint64, p []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, v := range p {
		u.writeRegister(off+uint64(i), v)
	}
	u.interrupt()
}

func (u *UART) dlab() bool { return u.lcr&lcrDLAB != 0 }

func (u *UART) readRegister(reg uint64) byte {
	switch reg {
	case regData:
		if u.dlab() {
			return byte(u.divisor)
		}
		return u.receive()
	case regIER:
		if u.dlab() {
			return byte(u.divisor >> 8)
		}
		return u.ier
	case regIIR:
		return u.identify()
	case regLCR:
		return u.lcr
	case regMCR:
		return u.mcr
	case regLSR:
		return u.lineStatus()
	case regMSR:
		return u.modemStatus()
	case regSCR:
		return u.scr
	}
	return 0
}

func (u *UART) writeRegister(reg uint64, v byte) {
	switch reg {
	case regData:
		if u.dlab() {
			u.divisor = u.divisor&0xff00 | uint16(v)
			return
		}
		u.transmit(v)
	case regIER:
		if u.dlab() {
			u.divisor = u.divisor&0x00ff | uint16(v)<<8
			return
		}
		// Unmasking reports an empty transmitter again, which Linux
		// checks for (UART_BUG_THRE).
		if v&^u.ier&ierTHRI != 0 && u.tx.room() {
			u.thrDue = true
		}
		u.ier = v & ierMask
		u.offerRoom()
	case regIIR:
		u.controlFIFO(v)
	case regLCR:
		u.lcr = v
	case regMCR:
		u.mcr = v & mcrMask
		u.offerRoom()
	case regSCR:
		u.scr = v
	}
}

func (u *UART) controlFIFO(v byte) {
	// Switching the FIFO on or off empties it too.
	if v&fcrClearRX != 0 || (v^u.fcr)&fcrEnable != 0 {
		u.rx.reset()
		u.offerRoom()
	}
	u.fcr = v
}

// modemStatus returns MSR: the other end is always there and ready; in loopback
// the modem inputs are the outputs.
func (u *UART) modemStatus() byte {
	if u.mcr&mcrLoop == 0 {
		return msrCTS | msrDSR | msrDCD
	}
	var v byte
	if u.mcr&mcrRTS != 0 {
		v |= msrCTS
	}
	if u.mcr&mcrDTR != 0 {
		v |= msrDSR
	}
	if u.mcr&mcrOut1 != 0 {
		v |= msrRI
	}
	if u.mcr&mcrOut2 != 0 {
		v |= msrDCD
	}
	return v
}
