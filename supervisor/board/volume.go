package board

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// patience is how long a boot medium may take to appear: buses are searched in
// the background.
const patience = 10 * time.Second

// waitForVolume waits for a block device with a file system of that label.
func waitForVolume(label string) (device, kind string, err error) {
	const pause = 100 * time.Millisecond
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		device, kind, err := findVolume(os.DirFS("/sys/class/block"), os.DirFS("/dev"), label)
		if err == nil {
			return filepath.Join("/dev", device), kind, nil
		}
		if time.Now().After(deadline) {
			return "", "", err
		}
	}
}

var errNoVolume = errors.New("no such volume")

// findVolume looks through the block devices of sys for a file system with a
// label, in the order of their names.
func findVolume(sys, dev fs.FS, label string) (device, kind string, err error) {
	entries, err := fs.ReadDir(sys, ".")
	if err != nil {
		return "", "", err
	}
	for _, e := range entries {
		kind, found, err := identify(dev, e.Name())
		if err == nil && kind != "" && found == label && label != "" {
			return e.Name(), kind, nil
		}
	}
	return "", "", fmt.Errorf("%w: none labelled %s among %d block devices", errNoVolume, label, len(entries))
}

// identify tells the file system on a device and its label.
func identify(dev fs.FS, name string) (kind, label string, err error) {
	f, err := dev.Open(name)
	if err != nil {
		return "", "", err
	}
	defer f.Close()
	var head [2048]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return "", "", err
	}
	kind, label = fileSystem(head[:])
	return kind, label, nil
}

// fileSystem recognises a file system by its first 2048 bytes: FAT by its boot
// sector (Microsoft's FAT specification, section 3), ext4 by its superblock
// (Documentation/filesystems/ext4/super.rst).
func fileSystem(head []byte) (kind, label string) {
	text := func(b []byte) string { return string(bytes.TrimRight(b, " \x00")) }
	const super = 1024
	switch {
	case head[510] == 0x55 && head[511] == 0xaa && string(head[82:87]) == "FAT32":
		return "vfat", text(head[71:82])
	case head[510] == 0x55 && head[511] == 0xaa && string(head[54:58]) == "FAT1": // 12 or 16
		return "vfat", text(head[43:54])
	case head[super+0x38] == 0x53 && head[super+0x39] == 0xef:
		return "ext4", text(head[super+0x78 : super+0x88])
	}
	return "", ""
}
