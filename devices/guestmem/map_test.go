package guestmem

import "testing"

func TestMapsShareTheFileAndAreAligned(t *testing.T) {
	m, err := Allocate("test", Range{0, 4 * HugePage}, Range{1 << 32, HugePage})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	off := int64(0)
	for _, r := range m.Regions() {
		if !aligned(r.Bytes, HugePage) {
			t.Errorf("the region at %#x is not on a huge page", r.Base)
		}
		again, err := Map(m.FD(), off, uint64(len(r.Bytes)))
		if err != nil {
			t.Fatal(err)
		}
		again[0], again[len(again)-1] = 1, 2
		if r.Bytes[0] != 1 || r.Bytes[len(r.Bytes)-1] != 2 {
			t.Error("two mappings differ")
		}
		if err := Unmap(again); err != nil {
			t.Error(err)
		}
		off += int64(len(r.Bytes))
	}
	// What is not on a huge page in the file is not on one in memory.
	const page = 4096
	b, err := Map(m.FD(), page, page)
	if err != nil {
		t.Fatal(err)
	}
	defer Unmap(b)
	if len(b) != page || aligned(b, HugePage) || !aligned(b[:], page) {
		t.Error("not where it should be")
	}
}

func TestMapRefuses(t *testing.T) {
	if _, err := Map(-1, 0, HugePage); err == nil {
		t.Error("no file is mapped")
	}
}
