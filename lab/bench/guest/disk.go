package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// measureDisk reads and writes the first disk past the guest's page cache.
func measureDisk(r report) error {
	const name = "/dev/vda"
	if err := appear(name); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := measureFile(r, f); err != nil {
		return err
	}
	b, err := buffer(small)
	if err != nil {
		return err
	}
	// A stride that is prime to the number of blocks, so that no two are neighbours.
	const stride = 1021
	v, err := each(func(i int) error {
		_, err := f.ReadAt(b, int64(i*stride%(total/small))*small)
		return err
	})
	r("latency", v)
	return err
}

// measureFile writes a file and reads it again.
func measureFile(r report, f *os.File) error {
	v, err := stream(total, func(b []byte) error { _, err := f.Write(b); return err })
	if err != nil {
		return err
	}
	r("write", v)
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	v, err = stream(total, func(b []byte) error { _, err := io.ReadFull(f, b); return err })
	r("read", v)
	return err
}

// shareTag is what the host calls the directory that it shares.
const shareTag = "bench"

// measureShare writes and reads a file of a shared directory past the guest's
// page cache, and opens one again and again.
func measureShare(r report) error {
	const dir = "/share"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(shareTag, dir, "virtiofs", 0, ""); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	name := filepath.Join(dir, "file")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC|unix.O_DIRECT, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := measureFile(r, f); err != nil {
		return err
	}
	v, err := each(func(int) error {
		fd, err := unix.Open(name, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	})
	r("open and close", v)
	return err
}
