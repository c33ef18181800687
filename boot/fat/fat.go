// Package fat makes FAT32 file systems, which all firmware can boot from
// ("Microsoft Extensible Firmware Initiative FAT32 File System Specification",
// version 1.03).
package fat

import (
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"time"
)

const (
	sectorSize = 512
	reserved   = 32 // sectors before the first table, as the specification wants them
	backupBoot = 6  // where the boot sector is a second time
	tables     = 2
	// minClusters is what makes it FAT32 and not FAT16, with the margin that the
	// specification asks for.
	minClusters  = 65525 + 16
	maxPerSector = 8 // sectors of a cluster: 4 KiB, so that small files take little
	firstCluster = 2 // clusters are counted from it
	endOfChain   = 0x0fff_ffff
	maxFile      = 1<<32 - 1
)

// Config says what is in a file system.
type Config struct {
	Label string // up to 11 characters, of capital letters and digits
	Files fs.FS
	Room  int64     // that stays free, in bytes, at least
	Time  time.Time // of all files
	ID    uint32    // the volume's serial number
	// Start is how many bytes of the medium are before the file system.
	Start int64
}

// Write writes a file system to w, which has to read as zeros, and returns its size
// in bytes: not all of its end is written. The same files give the same bytes.
func Write(w io.WriterAt, c Config) (size int64, err error) {
	if len(c.Label) > 11 {
		return 0, fmt.Errorf("fat: label %q has more than 11 characters", c.Label)
	}
	root, err := read(c.Files, ".")
	if err != nil {
		return 0, fmt.Errorf("fat: %w", err)
	}
	v := newVolume(c, root)
	if v.sectors > 1<<32-1 {
		return 0, fmt.Errorf("fat: %d MiB of files are too many", v.sectors>>11)
	}
	for _, step := range []func(io.WriterAt) error{v.writeBoot, v.writeTables, v.writeTree} {
		if err := step(w); err != nil {
			return 0, err
		}
	}
	return v.sectors * sectorSize, nil
}

// A volume is a file system whose every part has its place.
type volume struct {
	Config
	root       *node
	perCluster int64 // sectors
	clusters   int64
	used       int64 // clusters
	table      int64 // sectors of one table
	sectors    int64
}

func newVolume(c Config, root *node) *volume {
	v := &volume{Config: c, root: root}
	for v.perCluster = maxPerSector; ; v.perCluster /= 2 {
		v.used = root.place(v.clusterSize(), firstCluster) - firstCluster
		v.clusters = v.used + v.clustersOf(c.Room)
		if v.clusters >= minClusters || v.perCluster == 1 {
			break
		}
	}
	v.clusters = max(v.clusters, minClusters)
	v.table = ceil((v.clusters+firstCluster)*4, sectorSize)
	v.sectors = reserved + tables*v.table + v.clusters*v.perCluster
	return v
}

func (v *volume) clusterSize() int64       { return v.perCluster * sectorSize }
func (v *volume) clustersOf(n int64) int64 { return ceil(n, v.clusterSize()) }

// offset is where a cluster is, in bytes.
func (v *volume) offset(cluster int64) int64 {
	return (reserved+tables*v.table)*sectorSize + (cluster-firstCluster)*v.clusterSize()
}

func ceil(n, unit int64) int64 { return (n + unit - 1) / unit }

// writeBoot writes the boot sector and the sector that counts what is free, both
// twice (sections 3 and 5).
func (v *volume) writeBoot(w io.WriterAt) error {
	le := binary.LittleEndian
	b := make([]byte, 3*sectorSize)
	copy(b, "\xeb\xfe\x90WARDER  ") // what runs it runs for ever
	le.PutUint16(b[11:], sectorSize)
	b[13] = byte(v.perCluster)
	le.PutUint16(b[14:], reserved)
	b[16] = tables
	b[21] = 0xf8             // not removable, as it has partitions
	le.PutUint16(b[24:], 63) // a geometry, which nobody has
	le.PutUint16(b[26:], 255)
	le.PutUint32(b[28:], uint32(v.Start/sectorSize))
	le.PutUint32(b[32:], uint32(v.sectors))
	le.PutUint32(b[36:], uint32(v.table))
	le.PutUint32(b[44:], uint32(v.root.cluster))
	le.PutUint16(b[48:], 1) // the sector that counts
	le.PutUint16(b[50:], backupBoot)
	b[64], b[66] = 0x80, 0x29
	le.PutUint32(b[67:], v.ID)
	copy(b[71:], v.label())
	copy(b[82:], "FAT32   ")

	info := b[sectorSize:]
	copy(info, "RRaA")
	copy(info[484:], "rrAa")
	le.PutUint32(info[488:], uint32(v.clusters-v.used))
	le.PutUint32(info[492:], uint32(firstCluster+v.used))
	for s := range 3 {
		le.PutUint16(b[s*sectorSize+510:], 0xaa55)
	}
	if _, err := w.WriteAt(b, 0); err != nil {
		return err
	}
	_, err := w.WriteAt(b, backupBoot*sectorSize)
	return err
}

func (v *volume) label() string { return fmt.Sprintf("%-11s", v.Label) }

// writeTables writes where each cluster's chain goes on: all of them are in one
// piece (section 4).
func (v *volume) writeTables(w io.WriterAt) error {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0x0fff_ff00|0xf8)
	b = le.AppendUint32(b, endOfChain)
	v.root.walk(func(n *node) {
		for i := int64(1); i < n.clusters; i++ {
			b = le.AppendUint32(b, uint32(n.cluster+i))
		}
		if n.clusters > 0 {
			b = le.AppendUint32(b, endOfChain)
		}
	})
	for i := range int64(tables) {
		if _, err := w.WriteAt(b, (reserved+i*v.table)*sectorSize); err != nil {
			return err
		}
	}
	return nil
}

// writeTree writes directories and files.
func (v *volume) writeTree(w io.WriterAt) error {
	var err error
	v.root.walk(func(n *node) {
		switch {
		case err != nil:
		case n.dir:
			_, err = w.WriteAt(v.directory(n), v.offset(n.cluster))
		default:
			err = v.writeFile(w, n)
		}
	})
	return err
}

func (v *volume) writeFile(w io.WriterAt, n *node) error {
	f, err := v.Files.Open(n.path)
	if err != nil {
		return err
	}
	defer f.Close()
	written, err := io.Copy(io.NewOffsetWriter(w, v.offset(n.cluster)), io.LimitReader(f, n.size))
	if err == nil && written != n.size {
		err = fmt.Errorf("fat: %s changes while it is read", n.path)
	}
	return err
}
