// Package serial emulates a 16550A UART the way Linux' 8250 driver drives it.
//
// # Output
//
// A byte written to the transmit register goes to a bounded buffer that one
// goroutine drains to the host's writer, so a vCPU never waits for the host.
// While the buffer has no room for a whole FIFO the line status register says
// that the transmitter is busy: a slow reader on the host is a slow wire, and a
// driver that honours the status loses nothing. A guest that writes on
// regardless loses those bytes, as on hardware, and Stats counts them. A failing
// writer costs the bytes that it refused and nothing else.
//
// # Input
//
// Host input is never dropped: it waits in Run until the guest has taken what
// the receive FIFO holds. It also waits while the guest is not listening, that
// is while it neither raises RTS nor enables the receive interrupt, because a
// driver that starts up empties the FIFO.
//
// # Interrupts
//
// The line is edge-triggered: it is pulsed when a cause appears or is unmasked
// that was not there before. The causes are received data, a receive overrun
// (loopback only), and an empty transmit register, which comes once the host's
// goroutine has taken over what was written.
//
// Source: Texas Instruments PC16550D data sheet (SNLS378), sections 8.1 to 8.8.
package serial
