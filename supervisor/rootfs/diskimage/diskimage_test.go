package diskimage

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"strings"
	"testing"

	"warder/internal/testimage"
)

const mib = 1 << 20

func find(b []byte, partition int, arch string) (Root, error) {
	return Find(bytes.NewReader(b), int64(len(b)), partition, arch)
}

// mbr is a disk with an MBR and file systems of 1 MiB, from the first MiB on.
func mbr(parts ...[]byte) []byte {
	b := make([]byte, mib)
	for i, p := range parts {
		e := b[mbrTable+i*mbrEntry:]
		e[4] = 0x83
		binary.LittleEndian.PutUint32(e[8:], uint32(len(b)/sector))
		binary.LittleEndian.PutUint32(e[12:], uint32(len(p)/sector))
		b = append(b, p...)
	}
	b[510], b[511] = 0x55, 0xaa
	return b
}

// with is a copy of b with other bytes at a place.
func with(b []byte, at int, other string) []byte {
	b = bytes.Clone(b)
	copy(b[at:], other)
	return b
}

// resealed is a GPT disk with another header, whose checksum is right.
func resealed(b []byte, at int, other string) []byte {
	b = with(b, sector+at, other)
	h := b[sector:][:gptHeader]
	clear(h[16:20])
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return b
}

func erofs() []byte { return with(make([]byte, mib), 1024, "\xe2\xe1\xf5\xe0") }

func TestFind(t *testing.T) {
	ext4, gpt := testimage.Ext4(t), testimage.Disk(t)
	for name, c := range map[string]struct {
		disk      []byte
		partition int
		arch      string
		want      Root
	}{
		"ext4 alone":           {ext4, 0, "amd64", Root{"ext4", 0, mib}},
		"EROFS alone":          {erofs(), 0, "arm64", Root{"erofs", 0, mib}},
		"GPT, of its type":     {gpt, 0, "amd64", Root{"ext4", 2 * mib, mib}},
		"GPT, of another type": {gpt, 0, "arm64", Root{"ext4", 3 * mib, mib}},
		"GPT, by number":       {gpt, 3, "amd64", Root{"ext4", 3 * mib, mib}},
		"MBR, the only one":    {mbr(make([]byte, mib), erofs()), 0, "amd64", Root{"erofs", 2 * mib, mib}},
		"MBR, by number":       {mbr(ext4, erofs()), 1, "amd64", Root{"ext4", mib, mib}},
	} {
		if got, err := find(c.disk, c.partition, c.arch); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, c.want)
		}
	}
}

func TestFindRefuses(t *testing.T) {
	ext4, gpt := testimage.Ext4(t), testimage.Disk(t)
	const superblock = 1024
	for name, c := range map[string]struct {
		disk      []byte
		partition int
		want      string
	}{
		"nothing":                {nil, 0, "neither a file system that is known nor"},
		"zeros":                  {make([]byte, mib), 0, "neither a file system that is known nor"},
		"qcow2":                  {with(make([]byte, mib), 0, "QFI\xfb\x00\x00\x00\x03"), 0, "qemu-img convert"},
		"compressed":             {with(make([]byte, mib), 0, "\x28\xb5\x2f\xfd"), 0, "unzstd it"},
		"another file system":    {with(make([]byte, mib), 0, "XFSB"), 0, "what is on it is XFS"},
		"a number without parts": {ext4, 1, "leave the number out"},
		"no such number":         {gpt, 4, "it has no partition 4: there are 1 (nothing that is known, 1 MiB), 2 (ext4, 1 MiB), 3 (ext4, 1 MiB)"},
		"of nothing":             {gpt, 1, "partition 1 has nothing that is known"},
		"none that can be":       {mbr(make([]byte, mib), with(make([]byte, mib), 0, "XFSB")), 0, "none of its partitions has ext4 or EROFS: there are 1 (nothing"},
		"several that can be":    {mbr(ext4, erofs()), 0, "say by its number"},
		"cut off":                {gpt[:3*mib+512], 0, "ends behind the image"},
		"MBR, cut off":           {mbr(ext4)[:mib+512], 0, "ends behind the image"},
		"a GPT that is not":      {with(gpt, sector, "EFI LOVE"), 0, "there is none"},
		"a GPT with a wrong sum": {with(gpt, sector+24, "\xff"), 0, "is damaged"},
		"entries with a wrong":   {with(gpt, 2*sector+56, "\xff"), 0, "is damaged"},
		"entries far away":       {resealed(gpt, 72, "\xff\xff\xff\xff\xff\xff\xff\xff"), 0, "is damaged"},
		"entries without end":    {resealed(gpt, 80, "\xff\xff\xff\xff"), 0, "4294967295 entries"},
		"entries of nothing":     {resealed(gpt, 84, "\x00\x00\x00\x00"), 0, "of 0 bytes"},
		"ext4, to be recovered":  {with(ext4, superblock+0x60, "\x04"), 0, "e2fsck"},
		"ext4, cut off":          {ext4[:mib/2], 0, "its ext4 has 1 MiB, and there are 0"},
		"ext4, of huge blocks":   {with(ext4, superblock+0x18, "\x07"), 0, "is damaged"},
		"ext4 in a part, open":   {mbr(with(ext4, superblock+0x60, "\x04")), 1, "partition 1: its ext4 was not unmounted"},
	} {
		if got, err := find(c.disk, c.partition, "amd64"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %+v, %v, want an error that says %q", name, got, err, c.want)
		}
	}
}

// FuzzFind has images of anybody's, of which all behind the beginning is zeros: a root
// that is found is inside.
func FuzzFind(f *testing.F) {
	const size = 5 * mib
	gpt := testimage.Disk(f)[:32*sector+4*gptEntry]
	near := with(gpt, 2*sector+gptEntry+32, "\x03\x00\x00\x00\x00\x00\x00\x00") // its second partition is where the table is
	f.Add(gpt, 0)
	f.Add(near, 2)
	f.Add(testimage.Ext4(f)[:4*sector], 0)
	f.Add(erofs()[:4*sector], 0)
	f.Add(with(mbr(erofs())[:8*sector], mbrTable+8, "\x02\x00\x00\x00"), 1)
	f.Fuzz(func(t *testing.T, b []byte, partition int) {
		root, err := Find(bytes.NewReader(b), size, partition, "amd64")
		if err == nil && (root.Offset < 0 || root.Size <= 0 || root.Size > size-root.Offset || !mountable[root.FileSystem]) {
			t.Errorf("%+v in %d bytes", root, size)
		}
	})
}
