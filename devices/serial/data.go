package serial

// fifo is the receive FIFO.
type fifo struct {
	bytes [fifoSize]byte
	head  int // index of the oldest byte
	n     int
}

func (f *fifo) reset() { f.head, f.n = 0, 0 }

func (f *fifo) push(v byte) bool {
	if f.n == fifoSize {
		return false
	}
	f.bytes[(f.head+f.n)%fifoSize] = v
	f.n++
	return true
}

func (f *fifo) pop() (byte, bool) {
	if f.n == 0 {
		return 0, false
	}
	v := f.bytes[f.head]
	f.head = (f.head + 1) % fifoSize
	f.n--
	return v, true
}

// receive returns what RBR reads: the oldest byte, or 0.
func (u *UART) receive() byte {
	v, ok := u.rx.pop()
	if ok && u.rx.n == 0 {
		u.offerRoom()
	}
	return v
}

// transmit carries out a write of THR.
func (u *UART) transmit(v byte) {
	if u.mcr&mcrLoop != 0 {
		if !u.rx.push(v) {
			u.overrun = true
		}
		u.thrDue = true
		return
	}
	u.thrDue = false
	u.tx.put(v)
}

// transmitted is the transmitter's word that it is on to what put gave it.
func (u *UART) transmitted() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.thrDue = true
	u.interrupt()
}

func (u *UART) lineStatus() byte {
	var v byte
	if u.rx.n > 0 {
		v |= lsrDR
	}
	if u.overrun {
		v |= lsrOE
		u.overrun = false
	}
	if u.mcr&mcrLoop != 0 || u.tx.room() {
		v |= lsrTHRE | lsrTEMT
	}
	return v
}

// causes returns the unmasked interrupt causes, as IER bits.
func (u *UART) causes() byte {
	var v byte
	if u.overrun {
		v |= ierRLSI
	}
	if u.rx.n > 0 {
		v |= ierRDI
	}
	if u.thrDue {
		v |= ierTHRI
	}
	return v & u.ier
}

// identify returns IIR. Reading it acknowledges THRE where that is what it says.
func (u *UART) identify() byte {
	v := byte(iirNone)
	switch c := u.causes(); {
	case c&ierRLSI != 0:
		v = iirRLSI
	case c&ierRDI != 0:
		v = iirRDI
		if u.fcr&fcrEnable != 0 && u.rx.n < triggerLevels[u.fcr>>6] {
			v = iirTimeout
		}
	case c&ierTHRI != 0:
		v = iirTHRI
		u.thrDue = false
	}
	if u.fcr&fcrEnable != 0 {
		v |= iirFIFO
	}
	return v
}

// interrupt pulses the line if there is a cause that it was not pulsed for.
func (u *UART) interrupt() {
	c := u.causes()
	news := c &^ u.raised
	u.raised = c
	if news == 0 || u.closed {
		return
	}
	if err := u.line.Pulse(); err != nil {
		u.stats.Err = err
	}
}
