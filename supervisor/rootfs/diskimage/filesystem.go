package diskimage

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// packed are formats of images that are no raw bytes, and what to do about them.
var packed = map[string]string{
	"qcow2": convert, "VMDK": convert, "VHD": convert, "VHDX": convert,
	"gzip": "gunzip it", "zstd": "unzstd it", "xz": "unxz it",
}

const convert = "qemu-img convert -O raw IMAGE RAW"

// A magic is what is in each file system, or format, of a kind.
type magic struct {
	what  string
	at    int64
	bytes string
}

// magics are in the order in which they are asked for: a format that packs a disk
// comes before what may be on a disk.
var magics = []magic{
	{"qcow2", 0, "QFI\xfb"},
	{"VMDK", 0, "KDMV"},
	{"VMDK", 0, "# Disk DescriptorFile"},
	{"VHDX", 0, "vhdxfile"},
	{"VHD", 0, "conectix"},
	{"gzip", 0, "\x1f\x8b\x08"},
	{"zstd", 0, "\x28\xb5\x2f\xfd"},
	{"xz", 0, "\xfd7zXZ\x00"},
	{"LUKS", 0, "LUKS\xba\xbe"},
	{"squashfs", 0, "hsqs"},
	{"XFS", 0, "XFSB"},
	{"NTFS", 3, "NTFS    "},
	{"FAT", 54, "FAT"},
	{"FAT", 82, "FAT32"},
	{"LVM", 536, "LVM2 001"},
	{"erofs", 1024, "\xe2\xe1\xf5\xe0"}, // EROFS_SUPER_MAGIC_V1
	{"ext4", 1080, "\x53\xef"},          // EXT4_SUPER_MAGIC, of ext2 and ext3 too
	{"swap", 4086, "SWAPSPACE2"},
	{"ISO 9660", 32769, "CD001"},
	{"btrfs", 65600, "_BHRfS_M"},
}

// identify tells what is in n bytes at off, "" when that is not known.
func (d disk) identify(off, n int64) (string, error) {
	for _, m := range magics {
		if m.at+int64(len(m.bytes)) > n {
			continue
		}
		b, err := d.read(off+m.at, int64(len(m.bytes)))
		if err != nil {
			return "", err
		}
		if string(b) == m.bytes {
			return m.what, nil
		}
	}
	return "", nil
}

// sound says why a file system cannot be mounted without being written to, as far as
// its first blocks tell.
func (d disk) sound(root Root) error {
	if root.FileSystem != "ext4" {
		return nil
	}
	// struct ext4_super_block, fs/ext4/ext4.h
	const (
		at, blocks, logBlock, incompat = 1024, 0x4, 0x18, 0x60

		needsRecovery = 0x4
		maxLogBlock   = 6 // EXT4_MAX_BLOCK_LOG_SIZE, less the 10 that it begins at
	)
	s, err := d.read(root.Offset+at, 1024)
	if err != nil {
		return err
	}
	le := binary.LittleEndian
	log := le.Uint32(s[logBlock:])
	size := int64(le.Uint32(s[blocks:])) << (10 + min(log, maxLogBlock))
	switch {
	case log > maxLogBlock:
		return errors.New("its ext4 is damaged: e2fsck may mend it")
	case le.Uint32(s[incompat:])&needsRecovery != 0:
		return errors.New("its ext4 was not unmounted, and its journal is to be replayed: e2fsck -p does that; or is it mounted, or in use by a VM, now?")
	case size > root.Size:
		return fmt.Errorf("its ext4 has %d MiB, and there are %d: is all of it here?", size>>20, root.Size>>20)
	}
	return nil
}
