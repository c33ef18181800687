package balloon_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"warder/devices/guestmem"
	"warder/devices/virtio"
	"warder/devices/virtio/balloon"
	"warder/devices/virtio/virtqtest"
)

const (
	stats     = 1 << 1
	oom       = 1 << 2
	poison    = 1 << 4
	reporting = 1 << 5
)

// balloonDriver is a driver with its device, and memory that is all touched.
type balloonDriver struct {
	*virtqtest.Driver
	dev *balloon.Device
	t   *testing.T
}

func newDriver(t *testing.T) balloonDriver {
	mem := virtqtest.NewMemory(t)
	dev := balloon.New(mem)
	d := balloonDriver{virtqtest.NewDriverIn(t, mem, dev), dev, t}
	for _, r := range mem.Regions() {
		copy(r.Bytes, bytes.Repeat([]byte{0xff}, len(r.Bytes)))
	}
	return d
}

func (d balloonDriver) used() uint64 {
	d.t.Helper()
	n, err := d.Mem.Used()
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}

// firstPage is a page in the middle of queue 1's memory, which nothing uses;
// lastPage the last one there.
const (
	firstPage = (uint32(virtqtest.Base) + virtqtest.MemorySize/5 + 64<<10) / balloon.PageSize
	lastPage  = firstPage + 15
)

func pages(numbers ...uint32) (b []byte) {
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return b
}

func TestInflate(t *testing.T) {
	d := newDriver(t)
	d.Start(stats | oom | reporting)
	for _, c := range []struct {
		name    string
		numbers []uint32
		want    uint64 // pages that leave the host
	}{
		{"in any order", []uint32{firstPage + 3, firstPage, firstPage + 2, firstPage + 1}, 4},
		{"again", []uint32{firstPage, firstPage, firstPage}, 0},
		{"one twice", []uint32{firstPage + 5, firstPage + 5}, 1},
		{"with holes", []uint32{firstPage + 8, firstPage + 10, firstPage + 12}, 3},
		{"not RAM", []uint32{0, 1<<32 - 1, 1 << 20, firstPage + 14}, 1},
		{"none", nil, 0},
	} {
		before, state := d.used(), d.dev.State()
		d.Rings[0].Add(virtqtest.Buffer{Data: append([]byte{}, pages(c.numbers...)...)})
		d.Answer(0)
		if got := before - d.used(); got != c.want*balloon.PageSize {
			t.Errorf("%s: the host got %d bytes, want %d pages", c.name, got, c.want)
		}
		after := d.dev.State()
		if got := after.Inflated - state.Inflated; got != uint64(len(c.numbers))*balloon.PageSize {
			t.Errorf("%s: %d bytes counted as inflated", c.name, got)
		}
	}
	d.Rings[1].Add(virtqtest.Buffer{Data: pages(firstPage)})
	d.Answer(1)
	before := d.used()
	if err := d.Mem.WriteAt([]byte{1}, guestmem.Addr(firstPage)*balloon.PageSize); err != nil || d.used()-before != balloon.PageSize {
		t.Errorf("a page that came out of the balloon takes %d bytes (%v)", d.used()-before, err)
	}
}

func TestInflateLeavesWhatIsKept(t *testing.T) {
	d := newDriver(t)
	kept := d.Mem.Keep()
	const addr = guestmem.Addr(firstPage+1) * balloon.PageSize
	if err := kept.Add(addr, 8); err != nil {
		t.Fatal(err)
	}
	d.Start(reporting)
	d.Rings[0].Add(virtqtest.Buffer{Data: pages(firstPage, firstPage+1, firstPage+2)})
	d.Answer(0)
	var b [1]byte
	if err := d.Mem.ReadAt(b[:], addr); err != nil || b[0] != 0xff {
		t.Errorf("a page that the host keeps was emptied: %#x, %v", b[0], err)
	}
	if s := d.dev.State(); s.Inflated != 3*balloon.PageSize || s.Discarded != 2*balloon.PageSize {
		t.Errorf("state: %+v", s)
	}
}

func TestHalfAPageNumber(t *testing.T) {
	d := newDriver(t)
	d.Start(0)
	d.Rings[0].Add(virtqtest.Buffer{Data: []byte{1, 2, 3}})
	d.Kick(0)
	d.NeedsReset()
}

// TestReporting finds the queue where the specification has it, and where Linux
// puts it: queues of features that were not agreed on do not count there.
func TestReporting(t *testing.T) {
	for _, c := range []struct {
		name     string
		features uint64
		queue    int
	}{
		{"as specified", stats | reporting, 4},
		{"Linux", stats | reporting, 3},
		{"Linux without statistics", reporting, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDriver(t)
			if !d.Negotiate(c.features | virtio.FVersion1) {
				t.Fatal("features refused")
			}
			rings := map[int]*virtqtest.Ring{}
			set := []int{0, 1, c.queue}
			if c.features&stats != 0 {
				set = append(set, 2)
			}
			for _, i := range set {
				rings[i] = virtqtest.NewRing(d.Mem, 16, i*0x8000, (i+1)*0x8000)
				if err := d.Mem.WriteAt(make([]byte, 0x2000), rings[i].Desc()); err != nil {
					t.Fatal(err)
				}
				d.SetQueue(i, rings[i])
			}
			d.Put(virtqtest.RegStatus, 0xf)
			d.Rings = make([]*virtqtest.Ring, 5)
			for i, r := range rings {
				d.Rings[i] = r
			}
			before := d.used()
			r := rings[c.queue]
			r.PutDesc(r.Desc(), 0, virtqtest.Desc{Addr: guestmem.Addr(firstPage) * balloon.PageSize, Len: 4 * balloon.PageSize, Flags: virtqtest.Write | virtqtest.Next, Next: 1})
			r.PutDesc(r.Desc(), 1, virtqtest.Desc{Addr: guestmem.Addr(lastPage) * balloon.PageSize, Len: balloon.PageSize, Flags: virtqtest.Write})
			r.PutAvail(0)
			d.Answer(c.queue)
			if got := before - d.used(); got != 5*balloon.PageSize {
				t.Errorf("the host got %d bytes, want 5 pages", got)
			}
			if s := d.dev.State(); s.Reported != 5*balloon.PageSize || s.Discarded != s.Reported {
				t.Errorf("state: %+v", s)
			}
		})
	}
}

func TestPoisonedPagesStay(t *testing.T) {
	for _, c := range []struct {
		pattern uint32
		want    byte
	}{{0xaaaaaaaa, 0xff}, {0, 0}} {
		d := newDriver(t)
		d.Start(stats | reporting | poison)
		d.Put(virtqtest.RegConfig+12, c.pattern)
		if got := d.Get(virtqtest.RegConfig + 12); got != c.pattern {
			t.Errorf("the pattern reads %#x", got)
		}
		addr := guestmem.Addr(firstPage) * balloon.PageSize
		r := d.Rings[3]
		r.PutDesc(r.Desc(), 0, virtqtest.Desc{Addr: addr, Len: balloon.PageSize, Flags: virtqtest.Write})
		r.PutAvail(0)
		d.Answer(3)
		var b [1]byte
		if err := d.Mem.ReadAt(b[:], addr); err != nil || b[0] != c.want {
			t.Errorf("pattern %#x: the page holds %#x (%v)", c.pattern, b[0], err)
		}
	}
}

func TestTarget(t *testing.T) {
	d := newDriver(t)
	d.dev.SetTarget(5 * balloon.PageSize)
	if got := d.Get(virtqtest.RegConfig); got != 5 {
		t.Errorf("the driver finds a target of %d pages, want 5", got)
	}
	d.Start(stats)
	before := d.Get(virtqtest.RegGeneration)
	d.dev.SetTarget(7*balloon.PageSize + 1)
	if got := d.Get(virtqtest.RegConfig); got != 7 || d.Get(virtqtest.RegGeneration) == before {
		t.Errorf("the driver finds a target of %d pages, want 7", got)
	}
	if d.Get(virtqtest.RegInterruptStatus)&2 == 0 {
		t.Error("the driver was not told")
	}
	d.Put(virtqtest.RegConfig+4, 3)
	d.Put(virtqtest.RegConfig, 99) // not the driver's to write
	if s := d.dev.State(); s.Actual != 3*balloon.PageSize || s.Target != 7*balloon.PageSize {
		t.Errorf("state: %+v", s)
	}
	d.dev.SetTarget(1 << 63)
	if got := d.Get(virtqtest.RegConfig); got != 1<<32-1 {
		t.Errorf("the target was cut to %d pages", got)
	}
}

func statistic(tag uint16, value uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint16(nil, tag), value)
}

func TestStats(t *testing.T) {
	d := newDriver(t)
	d.Start(stats)
	d.Rings[2].Add(virtqtest.Buffer{Data: statistic(4, 1)}) // the driver's first, unasked
	d.Kick(2)
	ask := func() <-chan balloon.Stats {
		answer := make(chan balloon.Stats, 1)
		go func() {
			s, err := d.dev.Stats(t.Context())
			if err != nil {
				t.Error(err)
			}
			answer <- s
		}()
		return answer
	}
	for i := range uint64(3) {
		answer := ask()
		d.Answer(2) // the buffer comes back: fill it anew
		all := append(statistic(4, 100+i), statistic(5, 200)...)
		all = append(all, statistic(999, 1)...) // a tag of a later version
		d.Rings[2].Add(virtqtest.Buffer{Data: append(all, 1, 2, 3)})
		d.Kick(2)
		if s := <-answer; s != (balloon.Stats{Free: 100 + i, Total: 200}) {
			t.Errorf("poll %d: %+v", i, s)
		}
	}
}

// TestStatsOfNobody polls a device whose driver is not there, or stays silent, or
// is reset while somebody waits.
func TestStatsOfNobody(t *testing.T) {
	d := newDriver(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.dev.Stats(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("without a driver: %v", err)
	}
	d.Start(stats)
	d.Rings[2].Add(virtqtest.Buffer{Data: statistic(4, 1)})
	d.Kick(2)
	ctx, cancel = context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := d.dev.Stats(ctx)
		result <- err
	}()
	d.Answer(2) // and silence
	d.Start(stats)
	d.Rings[2].Add(virtqtest.Buffer{Data: statistic(4, 1)})
	d.Answer(2) // it asks the next driver
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("with a silent driver: %v", err)
	}
}

func FuzzDevice(f *testing.F) {
	f.Add([]byte{0, 0, 1, 8, 0x10, 0, 0, 0, 0x30, 0, 0, 0, 1, 1, 0x80, 4, 0, 2, 16})
	f.Add([]byte{0, 2, 1, 20, 4, 0, 1, 1, 1, 1, 1, 1, 1, 1, 5, 0, 9, 9, 9, 9, 9, 9, 9, 9, 13, 1})
	f.Add([]byte{0x80, 4, 0, 3, 255, 255, 255, 8, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 16, 0, 2, 0, 9, 4, 0})
	f.Fuzz(func(t *testing.T, program []byte) {
		mem := virtqtest.NewMemory(t)
		dev := balloon.New(mem)
		d := virtqtest.PlayIn(t, mem, dev, program)
		if s := dev.State(); s.Discarded > s.Inflated+s.Reported {
			t.Errorf("more was discarded than given: %+v", s)
		}
		d.Rings[0].Add(virtqtest.Buffer{Data: pages(1 << 30)})
		d.Answer(0)
	})
}
