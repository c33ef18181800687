package main

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// exits gives what leaves the guest and comes back at once: a read of the clock's
// register. The kernel lets it be mapped with iomem=relaxed.
func exits() (func() error, error) {
	const clock, page = 0x0901_0000, 4096
	fd, err := unix.Open("/dev/mem", unix.O_RDONLY|unix.O_SYNC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/mem: %w", err)
	}
	defer unix.Close(fd)
	b, err := unix.Mmap(fd, clock, page, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the clock: %w", err)
	}
	return func() error { runtime.KeepAlive(b[0]); return nil }, nil
}
