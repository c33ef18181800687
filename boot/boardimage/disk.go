package boardimage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"warder/boot/fat"
)

const (
	// diskStart is where the partition is on a disk, in bytes: flash memory likes
	// whole MiB.
	diskStart = 1 << 20
	// diskRoom is left free for who edits the configuration.
	diskRoom   = 16 << 20
	sectorSize = 512
)

// partitions are the types that firmware expects of the partition, by layout.
var partitions = map[Layout]byte{
	RaspberryPi: 0x0c, // FAT32
	EFI:         0xef, // EFI system partition
}

// CheckDisk says why a disk of that layout could not be booted from.
func (l Layout) CheckDisk() error {
	if _, ok := partitions[l]; !ok {
		return fmt.Errorf("layout %s has no boot loader for a disk: take %s or %s", l, EFI, RaspberryPi)
	}
	return nil
}

// WriteDisk writes the image whose files are in dir as a disk, to be copied onto a
// medium byte by byte: a partition with the file system that firmware looks for.
func WriteDisk(path, dir string, layout Layout, built time.Time) (err error) {
	if err := layout.CheckDisk(); err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	size, err := fat.Write(io.NewOffsetWriter(f, diskStart), fat.Config{
		Label: Volume, Files: os.DirFS(dir), Room: diskRoom, Time: built, Start: diskStart,
		ID: crc32.ChecksumIEEE([]byte(built.UTC().Format(time.RFC3339Nano))),
	})
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(masterBootRecord(partitions[layout], diskStart/sectorSize, uint32(size/sectorSize)), 0); err != nil {
		return err
	}
	return f.Truncate(diskStart + size)
}

// masterBootRecord has one partition, given in sectors (UEFI specification, section
// 5.2).
func masterBootRecord(kind byte, start, size uint32) []byte {
	b := make([]byte, sectorSize)
	p := b[446:]
	const beyond = "\xfe\xff\xff" // no cylinders, heads and sectors are given
	p[0] = 0x80                   // to boot from
	copy(p[1:], beyond)
	p[4] = kind
	copy(p[5:], beyond)
	binary.LittleEndian.PutUint32(p[8:], start)
	binary.LittleEndian.PutUint32(p[12:], size)
	binary.LittleEndian.PutUint16(b[510:], 0xaa55)
	return b
}
