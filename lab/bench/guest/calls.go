package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"warder/lab/bench/initrd"
)

// tryCalls is how often each call is made.
const tryCalls = 2000

// untilTrapped is more than it takes to hook a kernel. A machine that counts
// instructions jumps over it.
const untilTrapped = 3 * time.Second

// tracedArgument has this program make the calls of measureCalls and do nothing else.
const tracedArgument = "traced"

// measureCalls is [makeCalls], of a process that is traced if the kernel's command line
// says by what.
func measureCalls(r report) error {
	for _, a := range os.Args[1:] {
		if command, ok := initrd.TraceCommand(a); ok {
			// perf finds there what can be traced.
			if err := unix.Mount("tracefs", "/sys/kernel/tracing", "tracefs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
				return fmt.Errorf("tracefs: %w", err)
			}
			c := exec.Command(command[0], append(command[1:], "/init", tracedArgument)...)
			c.Stdout, c.Stderr = os.Stdout, os.Stderr
			return c.Run()
		}
	}
	return makeCalls(r)
}

// makeCalls makes system calls, and accesses of the cheapest kind that leave the
// guest, for comparison; then some work with many calls and some without.
func makeCalls(r report) error {
	const name = "/tmp-file"
	if err := os.WriteFile(name, make([]byte, small), 0o600); err != nil {
		return err
	}
	leave, err := exits()
	if err != nil {
		return err
	}
	time.Sleep(untilTrapped)
	b := make([]byte, small)
	work := make([]byte, 1<<20)
	for _, m := range []struct {
		quantity string
		times    int
		act      func() error
	}{
		{"exit", tryCalls, leave},
		{"getppid", tryCalls, func() error { unix.Getppid(); return nil }},
		{"openat", tryCalls, func() error { return openClose(name, nil) }},
		{"file read", tryCalls, func() error { return openClose(name, b) }},
		{"MiB hashed", 20, func() error { sha256.Sum256(work); return nil }},
	} {
		from := time.Now()
		for range m.times {
			if err := m.act(); err != nil {
				return err
			}
		}
		r(m.quantity, float64(time.Since(from).Nanoseconds())/float64(m.times))
	}
	return nil
}

// openClose opens and closes a file, and reads it between unless p is nil.
func openClose(name string, p []byte) error {
	fd, err := unix.Open(name, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	if p != nil {
		if _, err := unix.Read(fd, p); err != nil {
			return err
		}
	}
	return unix.Close(fd)
}
