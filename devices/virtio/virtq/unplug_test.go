package virtq_test

import (
	"errors"
	"os"
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio/virtq"
	"warder/devices/virtio/virtqtest"
)

// TestRingsThatGo unplugs the memory of each part of a queue: that ends its use, as if it had
// never been there.
func TestRingsThatGo(t *testing.T) {
	page := guestmem.Addr(os.Getpagesize())
	for part, name := range []string{"descriptor table", "available ring", "used ring"} {
		t.Run(name, func(t *testing.T) {
			m, err := guestmem.Allocate("virtq-test", guestmem.Range{Base: virtqtest.Base, Size: 8 * uint64(page)})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err := errors.Join(m.Hotplug(virtqtest.Base, uint64(page)), m.Plug(virtqtest.Base, 8*uint64(page))); err != nil {
				t.Fatal(err)
			}
			at := func(i int) guestmem.Addr { return virtqtest.Base + guestmem.Addr(i)*page }
			q, err := virtq.New(m, virtq.Config{Size: 8, Desc: at(0), Avail: at(1), Used: at(2), Notify: func() error { return nil }})
			if err != nil {
				t.Fatal(err)
			}
			use := func() error {
				c, err := q.Pop()
				if err != nil {
					return err
				}
				return q.Push(c, 0)
			}
			// One chain after the other, all of the same descriptor of no bytes.
			if err := errors.Join(m.StoreUint64(at(0), uint64(at(3))), m.StoreUint16(at(1)+2, 8)); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(use(), m.Unplug(at(7), uint64(page)), use()); err != nil {
				t.Fatal(err)
			}
			before, _ := m.Used()
			if err := m.Unplug(at(part), uint64(page)); err != nil {
				t.Fatal(err)
			}
			if err := use(); !errors.Is(err, guestmem.ErrRange) {
				t.Errorf("error %v, want ErrRange", err)
			}
			if after, _ := m.Used(); after >= before {
				t.Errorf("%d bytes of the host's, %d before the page went", after, before)
			}
		})
	}
}
