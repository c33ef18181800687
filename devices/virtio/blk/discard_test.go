package blk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"warder/devices/virtio/blk"
	"warder/devices/virtio/virtqtest"
)

const (
	featureConfigWCE = 1 << 11
	featureMQ        = 1 << 12
	featureDiscard   = 1 << 13
	featureZeroes    = 1 << 14
)

// segment is a part of the disk to discard or zero.
func segment(sector uint64, sectors, flags uint32) []byte {
	b := binary.LittleEndian.AppendUint64(nil, sector)
	b = binary.LittleEndian.AppendUint32(b, sectors)
	return binary.LittleEndian.AppendUint32(b, flags)
}

// droppable is a disk in memory that discards to 0xdd, and may know no way to zero.
type droppable struct {
	memory
	dumb bool
}

func (d droppable) Discard(off, n int64) error {
	if d.dumb {
		return errors.ErrUnsupported
	}
	diskLock.Lock()
	defer diskLock.Unlock()
	copy(d.memory[off:off+n], bytes.Repeat([]byte{0xdd}, int(n)))
	return nil
}

func (d droppable) Zero(off, n int64, _ bool) error {
	if d.dumb {
		return errors.ErrUnsupported
	}
	diskLock.Lock()
	defer diskLock.Unlock()
	clear(d.memory[off : off+n])
	return nil
}

func TestDiscardAndZero(t *testing.T) {
	for _, dumb := range []bool{false, true} {
		disk := make(memory, 1<<20)
		for i := range disk {
			disk[i] = 0xaa
		}
		want := bytes.Clone(disk)
		dev := blk.New(blk.Config{Disk: droppable{disk, dumb}, Log: quiet})
		d := virtqtest.NewDriver(t, dev)
		d.Start(featureDiscard | featureZeroes)
		if got := d.Get(virtqtest.RegConfig + 36); got != 1<<21 {
			t.Errorf("at most %d sectors to discard", got)
		}
		two := append(segment(2, 3, 0), segment(100, 1, 0)...)
		if s, _, n := request(d, discard, 0, two, 0); s != ok || n != 1 {
			t.Errorf("discard: status %d, %d bytes", s, n)
		}
		if !dumb {
			copy(want[2*512:5*512], bytes.Repeat([]byte{0xdd}, 3*512))
			copy(want[100*512:101*512], bytes.Repeat([]byte{0xdd}, 512))
		}
		if s, _, _ := request(d, zeroes, 0, segment(200, 1000, 1), 0); s != ok {
			t.Errorf("zero: status %d", s)
		}
		clear(want[200*512 : 1200*512])
		if err := d.Close(); err != nil { // the workers are done
			t.Fatal(err)
		}
		if !bytes.Equal(want, disk) {
			t.Errorf("dumb %v: other bytes than those asked for have changed, or not all of them", dumb)
		}
		if got, want := dev.Stats(), (blk.Stats{Discarded: 4 * 512, Zeroed: 1000 * 512}); got != want {
			t.Errorf("statistics: %+v", got)
		}
	}
}

func TestDiscardRefuses(t *testing.T) {
	disk := make(memory, 64<<10)
	for i := range disk {
		disk[i] = 0xaa
	}
	d := virtqtest.NewDriver(t, blk.New(blk.Config{Disk: droppable{disk, false}, Log: quiet}))
	d.Start(featureDiscard | featureZeroes)
	for name, c := range map[string]struct {
		kind uint32
		data []byte
		want byte
	}{
		"nothing":                   {discard, nil, ioErr},
		"half a segment":            {discard, segment(0, 1, 0)[:8], ioErr},
		"a segment and a half":      {discard, append(segment(0, 1, 0), make([]byte, 8)...), ioErr},
		"past the end":              {discard, segment(128, 1, 0), ioErr},
		"over the end":              {discard, segment(127, 2, 0), ioErr},
		"one good, one past":        {discard, append(segment(0, 1, 0), segment(128, 1, 0)...), ioErr},
		"at the top":                {zeroes, segment(1<<64-1, 1, 0), ioErr},
		"that wraps":                {zeroes, segment(1<<55, 1<<31, 0), ioErr},
		"too much":                  {zeroes, segment(0, 1<<17+1, 0), ioErr},
		"too many segments":         {discard, bytes.Repeat(segment(0, 1, 0), 65), ioErr},
		"too many segments to zero": {zeroes, bytes.Repeat(segment(0, 1, 0), 2), ioErr},
		"discard with unmap":        {discard, segment(0, 1, 1), unsupported},
		"unknown flag":              {zeroes, segment(0, 1, 2), unsupported},
	} {
		if s, _, _ := request(d, c.kind, 0, c.data, 0); s != c.want {
			t.Errorf("%s: status %d, want %d", name, s, c.want)
		}
	}
	if err := d.Close(); err != nil { // the workers are done
		t.Fatal(err)
	}
	if !bytes.Equal(disk, bytes.Repeat([]byte{0xaa}, len(disk))) {
		t.Error("a refused request changed the disk")
	}

	for name, cfg := range map[string]blk.Config{
		"read-only":     {Disk: droppable{disk, false}, ReadOnly: true, Log: quiet},
		"without a way": {Disk: disk, Log: quiet},
	} {
		d := virtqtest.NewDriver(t, blk.New(cfg))
		if d.Offered()&(featureDiscard|featureZeroes) != 0 {
			t.Errorf("%s: offers %#x", name, d.Offered())
		}
		d.Start(0)
		if s, _, _ := request(d, discard, 0, segment(0, 1, 0), 0); s != unsupported {
			t.Errorf("%s: a discard has status %d", name, s)
		}
	}
}

// TestFileGivesRoomBack discards and zeroes parts of a file.
func TestFileGivesRoomBack(t *testing.T) {
	const size = 1 << 20
	path := image(t, size/512)
	f := open(t, path, false)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := virtqtest.NewDriver(t, blk.New(blk.Config{Disk: f, Log: quiet}))
	d.Start(featureDiscard | featureZeroes)
	if s, _, _ := request(d, discard, 0, segment(0, 512, 0), 0); s != ok {
		t.Errorf("discard: status %d", s)
	}
	for i, unmap := range []uint32{0, 1} {
		if s, _, _ := request(d, zeroes, 0, segment(uint64(1024+i*9), 9, unmap), 0); s != ok {
			t.Errorf("zero: status %d", s)
		}
	}
	clear(before[:512*512])
	clear(before[1024*512 : 1042*512])
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(after, before) {
		t.Errorf("the file is not as it should be (%v)", err)
	}
	if n := blocks(t, path); n > size/512-400 {
		t.Errorf("the file takes %d of %d sectors after half of it was discarded", n, size/512)
	}
}
