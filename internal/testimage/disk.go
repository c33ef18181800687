package testimage

import (
	_ "embed"
	"testing"

	"github.com/klauspost/compress/zstd"
)

var (
	//go:embed ext4.img.zst
	ext4 []byte
	//go:embed disk.img.zst
	disk []byte
)

// Ext4 is a small ext4 file system without files: mke2fs -t ext4 -b 1024 -O
// ^has_journal,^resize_inode -N 64 -m 0 of 1 MiB.
func Ext4(t testing.TB) []byte { return unpack(t, ext4) }

// Disk is a disk with a GPT that sfdisk has made: a partition of the type of EFI's, with
// nothing in it, and one of the type of a root for amd64 and for arm64 each, with a file
// system as Ext4 is. Each has 1 MiB, and begins at as many as its number.
func Disk(t testing.TB) []byte { return unpack(t, disk) }

func unpack(t testing.TB, packed []byte) []byte {
	t.Helper()
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	b, err := z.DecodeAll(packed, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
