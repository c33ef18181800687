package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// writePort writes a byte to the port of the clock's index, which has no effect.
func writePort()

// exits gives what leaves the guest and comes back at once: a write to a port.
func exits() (func() error, error) {
	const clock = 0x70
	if err := unix.Ioperm(clock, 1, 1); err != nil {
		return nil, fmt.Errorf("ports: %w", err)
	}
	return func() error { writePort(); return nil }, nil
}
