package mem_test

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio/mem"
	"warder/devices/virtio/virtqtest"
)

const (
	base  = guestmem.Addr(0x1000_0000)
	block = 2 << 20
	size  = 16 * block

	plug, unplug, unplugAll, state = 0, 1, 2, 3
	ack, nack, busy, refused       = 0, 1, 2, 3
)

// region is memory in blocks that knows which are there.
type region struct {
	t testing.TB

	mu    sync.Mutex
	there [size / block]bool
	kept  bool
	err   error
}

func (r *region) set(a guestmem.Addr, n uint64, there bool) {
	off := uint64(a - base)
	if a < base || off%block != 0 || n%block != 0 || n == 0 || off+n > size {
		r.t.Fatalf("the device plugs or unplugs %#x+%#x", a, n)
	}
	for i := off / block; i < (off+n)/block; i++ {
		if r.there[i] == there {
			r.t.Fatalf("block %d is %v already", i, there)
		}
		r.there[i] = there
	}
}

// change does something to the region, or looks at it, between requests.
func (r *region) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *region) Plug(a guestmem.Addr, n uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.set(a, n, true)
	}
	return r.err
}

func (r *region) Unplug(a guestmem.Addr, n uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept {
		return guestmem.ErrKept
	}
	r.set(a, n, false)
	return nil
}

func newDevice(t testing.TB) (*mem.Device, *region) {
	r := &region{t: t}
	dev, err := mem.New(mem.Config{Memory: r, Base: base, Size: size, Block: block})
	if err != nil {
		t.Fatal(err)
	}
	return dev, r
}

func request(kind uint16, addr guestmem.Addr, blocks uint16) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(kind))
	b = binary.LittleEndian.AppendUint64(b, uint64(addr))
	return binary.LittleEndian.AppendUint64(b, uint64(blocks))
}

func ask(t testing.TB, d *virtqtest.Driver, kind uint16, addr guestmem.Addr, blocks uint16) (response, state uint16) {
	t.Helper()
	d.Rings[0].Add(virtqtest.Buffer{Data: request(kind, addr, blocks)}, virtqtest.Buffer{Room: 16})
	a := d.Answer(0)
	if a.Written != 10 {
		t.Errorf("a response of %d bytes, want 10", a.Written)
	}
	return binary.LittleEndian.Uint16(a.Room), binary.LittleEndian.Uint16(a.Room[8:])
}

func TestRequests(t *testing.T) {
	dev, _ := newDevice(t)
	d := virtqtest.NewDriver(t, dev)
	d.Start(0)
	dev.Request(5*block + 1)
	for i, c := range []struct {
		kind   uint16
		block  int64
		blocks uint16
		want   uint16
		state  uint16
		after  uint64 // blocks plugged
	}{
		{state, 0, 16, ack, 1, 0},
		{plug, 0, 6, nack, 0, 0}, // more than requested
		{plug, 2, 4, ack, 0, 4},
		{plug, 5, 1, refused, 0, 4}, // there already
		{plug, 7, 2, nack, 0, 4},
		{plug, 15, 1, ack, 0, 5},
		{state, 2, 4, ack, 0, 5},
		{state, 1, 2, ack, 2, 5},
		{state, 15, 1, ack, 0, 5},
		{state, 15, 2, refused, 0, 5}, // beyond the end
		{state, -1, 1, refused, 0, 5},
		{state, 0, 0, refused, 0, 5},
		{plug, 16, 1, refused, 0, 5},
		{unplug, 1, 2, refused, 0, 5}, // one of them is not there
		{unplug, 3, 2, ack, 0, 3},
		{state, 2, 4, ack, 2, 3},
		{77, 2, 1, refused, 0, 3},
		{unplugAll, 0, 0, ack, 0, 0},
		{unplugAll, 0, 0, ack, 0, 0},
		{plug, 0, 5, ack, 0, 5},
	} {
		got, state := ask(t, d, c.kind, base+guestmem.Addr(c.block*block), c.blocks)
		if got != c.want || state != c.state || dev.State().Plugged != c.after*block {
			t.Errorf("request %d: answer %d, state %d, %d bytes plugged; want %+v", i, got, state, dev.State().Plugged, c)
		}
	}
	if got, _ := ask(t, d, state, base+1, 1); got != refused {
		t.Errorf("an address inside of a block: answer %d", got)
	}
	if got, _ := ask(t, d, unplug, 0, 1); got != refused {
		t.Errorf("address 0: answer %d", got)
	}
}

func TestConfiguration(t *testing.T) {
	dev, _ := newDevice(t)
	d := virtqtest.NewDriver(t, dev)
	get := func(off uint64) uint64 {
		return uint64(d.Get(virtqtest.RegConfig+off)) | uint64(d.Get(virtqtest.RegConfig+off+4))<<32
	}
	want := func(plugged, requested uint64) {
		t.Helper()
		for off, v := range map[uint64]uint64{0: block, 8: 0, 16: uint64(base), 24: size, 32: size, 40: plugged, 48: requested, 56: 0} {
			if got := get(off); got != v {
				t.Errorf("at %d: %#x, want %#x", off, got, v)
			}
		}
	}
	want(0, 0)
	d.Start(0)
	dev.Request(1 << 40)
	if d.Get(virtqtest.RegInterruptStatus)&2 == 0 {
		t.Error("the driver was not told")
	}
	want(0, size)
	ask(t, d, plug, base, 3)
	// The next driver finds what the one before had.
	d.Start(0)
	want(3*block, size)
	dev.Request(block)
	want(3*block, block)
	if s := dev.State(); s != (mem.State{Region: size, Requested: block, Plugged: 3 * block}) {
		t.Errorf("state: %+v", s)
	}
}

func TestKeptBlocksStay(t *testing.T) {
	dev, r := newDevice(t)
	d := virtqtest.NewDriver(t, dev)
	d.Start(0)
	dev.Request(size)
	ask(t, d, plug, base, 2)
	r.change(func() { r.kept = true })
	if got, _ := ask(t, d, unplug, base, 1); got != busy {
		t.Errorf("unplug: answer %d", got)
	}
	if got, _ := ask(t, d, unplugAll, 0, 0); got != busy || dev.State().Plugged != 2*block {
		t.Errorf("unplug all: answer %d, %+v", got, dev.State())
	}
	r.change(func() { r.kept = false })
	if got, _ := ask(t, d, unplugAll, 0, 0); got != ack || dev.State().Plugged != 0 {
		t.Errorf("unplug all: answer %d, %+v", got, dev.State())
	}
}

func TestHostFails(t *testing.T) {
	dev, r := newDevice(t)
	d := virtqtest.NewDriver(t, dev)
	d.Start(0)
	dev.Request(size)
	r.change(func() { r.err = errors.New("no more") })
	d.Rings[0].Add(virtqtest.Buffer{Data: request(plug, base, 1)}, virtqtest.Buffer{Room: 16})
	d.Kick(0)
	d.NeedsReset()
	if s := dev.State(); s.Plugged != 0 {
		t.Errorf("%+v", s)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []mem.Config{
		{Base: base, Size: size}, {Base: base, Size: size, Block: 3 << 20}, {Base: base, Block: block},
		{Base: base, Size: block + 1, Block: block}, {Base: base + 1, Size: size, Block: block},
	} {
		if _, err := mem.New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
}

func FuzzDevice(f *testing.F) {
	f.Add([]byte{0, 0, 1, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2})
	f.Add([]byte{0, 0, 1, 24, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 1, 2})
	f.Add([]byte{0x80, 0, 1, 4, 2, 0, 0, 0, 1, 1, 13, 0, 9, 0, 3})
	f.Fuzz(func(t *testing.T, program []byte) {
		dev, r := newDevice(t)
		dev.Request(size / 2)
		d := virtqtest.Play(t, dev, program)
		// A guest that asks at random has what it was granted and no more.
		rnd := rand.New(rand.NewPCG(1, uint64(len(program))))
		for range 20 {
			ask(t, d, uint16(rnd.IntN(4)), base+guestmem.Addr(rnd.IntN(17)*block), uint16(rnd.IntN(6)))
			n := uint64(0)
			r.change(func() {
				for _, there := range r.there {
					if there {
						n += block
					}
				}
			})
			if s := dev.State(); s.Plugged != n || n > s.Requested {
				t.Fatalf("%d bytes are plugged, %+v", n, s)
			}
		}
	})
}

// TestShortRequest sends a request that plugs, were what is missing of it zeros.
func TestShortRequest(t *testing.T) {
	dev, _ := newDevice(t)
	d := virtqtest.NewDriver(t, dev)
	for _, n := range []int{0, 8, 23} {
		d.Start(0)
		dev.Request(size)
		d.Rings[0].Add(virtqtest.Buffer{Data: request(plug, base, 1)[:n]}, virtqtest.Buffer{Room: 16})
		d.Kick(0)
		d.NeedsReset()
		if s := dev.State(); s.Plugged != 0 {
			t.Errorf("%d bytes of a request had %d bytes plugged", n, s.Plugged)
		}
	}
}
