//go:build !race

package iovec

import "testing"

// TestAllocatesNothing holds what the package is for. With the race detector a pool
// forgets what it holds.
func TestAllocatesNothing(t *testing.T) {
	fd := int(open(t).Fd())
	bufs := pieces(256, 16)
	if _, err := WriteAt(fd, [][]byte{make([]byte, 256*16)}, 0, 0); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() (int, error){
		"WriteAt": func() (int, error) { return WriteAt(fd, bufs, 0, 0) },
		"ReadAt":  func() (int, error) { return ReadAt(fd, bufs, 0) },
	} {
		if n := testing.AllocsPerRun(100, func() {
			if n, err := call(); n == 0 || err != nil {
				t.Fatal(n, err)
			}
		}); n >= 1 { // the collector takes what is spare now and then
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
