package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// settle has the kernel be done with what was freed before: by guests that have ended, and
// by the start of this machine. Linux keeps up to an eighth of all memory in a CPU's list of
// free pages, and merges it with the rest when the CPU frees something large much later, which
// for a guest's memory is as many instructions as 16 MiB take over the network. Whoever is
// measured then would pay for it.
func settle() error {
	const file = "/proc/sys/vm/percpu_pagelist_high_fraction"
	if err := os.WriteFile(file, []byte("1000000"), 0o644); err != nil { // lists are to be short
		return fmt.Errorf("settle: %w", err)
	}
	err := freePages(16 << 20)
	return errors.Join(err, os.WriteFile(file, []byte("0"), 0o644)) // as they were
}

// freePages frees so many bytes by small pages, each of which has the kernel look at how long
// its list is.
func freePages(n int) error {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	return errors.Join(unix.Madvise(b, unix.MADV_NOHUGEPAGE), unix.Madvise(b, unix.MADV_POPULATE_WRITE), unix.Munmap(b))
}
