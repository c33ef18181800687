// Package irq is what a device needs of an interrupt controller: a line to
// pulse.
package irq

// A Line is an edge-triggered interrupt line. Pulse may be called from any
// goroutine; its error is the host's, a guest can't cause one.
type Line interface {
	Pulse() error
}

// Func is a function as a Line.
type Func func() error

// Pulse implements Line.
func (f Func) Pulse() error { return f() }
