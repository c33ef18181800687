package kvm

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// statsFile is what a kernel with two counters and a histogram has, names of 8
// bytes, and its data in front of the descriptions.
func statsFile() []byte {
	var b bytes.Buffer
	put := func(v ...any) {
		for _, v := range v {
			_ = binary.Write(&b, binary.NativeEndian, v) // a buffer takes all
		}
	}
	const data, id, descriptors = 24, 24 + 5*8, 24 + 5*8 + 8
	put([]uint32{0, 8, 3, id, descriptors, data}, []uint64{7, 1, 2, 3, 9}, []byte("kvm-1\x00\x00\x00"))
	put(uint32(0), int16(0), uint16(1), uint32(0), uint32(0), []byte("exits\x00\x00\x00"))
	put(uint32(3), int16(0), uint16(3), uint32(8), uint32(0), []byte("hist\x00\x00\x00\x00"))
	put(uint32(0), int16(-9), uint16(1), uint32(32), uint32(0), []byte("nineteen"))
	return b.Bytes()
}

func TestCounters(t *testing.T) {
	got, err := counters(bytes.NewReader(statsFile()))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]int64{"exits": 24, "nineteen": 56}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	whole := statsFile()
	for n := range len(whole) {
		if _, err := counters(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("%d of %d bytes are taken", n, len(whole))
		}
	}
	binary.NativeEndian.PutUint32(whole[8:], 1<<31)
	if _, err := counters(bytes.NewReader(whole)); err == nil {
		t.Error("2^31 counters are taken")
	}
}
