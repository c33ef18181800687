package blk_test

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"warder/devices/virtio/blk"
	"warder/devices/virtio/virtqtest"
)

func blocks(t *testing.T, path string) int64 {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks
}

// cache is a disk that has what was written in its medium only after Sync.
type cache struct {
	memory
	mu     *sync.Mutex
	medium memory
}

func (c cache) WriteAt(p []byte, off int64) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.memory.WriteAt(p, off)
}

func (c cache) Sync() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	copy(c.medium, c.memory)
	return nil
}

// TestFlushCoversAllQueues writes by every queue and flushes by one.
func TestFlushCoversAllQueues(t *testing.T) {
	const queues = 4
	disk := cache{make(memory, 64<<10), new(sync.Mutex), make(memory, 64<<10)}
	d := virtqtest.NewDriver(t, blk.New(blk.Config{Disk: disk, Queues: queues, Log: quiet}))
	d.Start(featureMQ | featureFlush)
	if got := d.Get(virtqtest.RegConfig+32) >> 16; got != queues {
		t.Errorf("%d queues, want %d", got, queues)
	}
	for flusher := range queues {
		want := make(memory, len(disk.medium))
		for q := range queues {
			data := bytes.Repeat([]byte{byte(1 + flusher*queues + q)}, 512)
			d.Rings[q].Add(virtqtest.Buffer{Data: header(out, uint64(q))}, virtqtest.Buffer{Data: data}, virtqtest.Buffer{Room: 1})
			if a := d.Answer(q); a.Room[0] != ok {
				t.Fatalf("write: status %d", a.Room[0])
			}
			copy(want[q*512:], data)
		}
		d.Rings[flusher].Add(virtqtest.Buffer{Data: header(flush, 0)}, virtqtest.Buffer{Room: 1})
		if a := d.Answer(flusher); a.Room[0] != ok {
			t.Fatalf("flush: status %d", a.Room[0])
		}
		disk.mu.Lock()
		done := bytes.Equal(disk.medium, want)
		disk.mu.Unlock()
		if !done {
			t.Fatalf("after a flush by queue %d not all that was written is durable", flusher)
		}
	}
}

// synced counts the syncs of a disk while it runs.
type synced struct {
	memory
	syncs *atomic.Int32
}

func (s synced) Sync() error { s.syncs.Add(1); return nil }

// TestWriteThrough has the driver choose the cache's mode.
func TestWriteThrough(t *testing.T) {
	var syncs atomic.Int32
	d := virtqtest.NewDriver(t, blk.New(blk.Config{Disk: synced{make(memory, 4096), &syncs}, Log: quiet}))
	mode := func() uint32 { return d.Get(virtqtest.RegConfig+32) & 0xff }
	write := func() {
		t.Helper()
		if s, _, _ := request(d, out, 0, make([]byte, 512), 0); s != ok {
			t.Fatalf("write: status %d", s)
		}
	}
	for range 2 { // a reset takes the choice back
		d.Start(featureFlush | featureConfigWCE)
		write()
		if syncs.Load() != 0 || mode() != 1 {
			t.Errorf("write-back, mode %d: %d syncs", mode(), syncs.Load())
		}
		d.Write(virtqtest.RegConfig+32, []byte{0})
		write()
		if syncs.Load() != 1 || mode() != 0 {
			t.Errorf("write-through, mode %d: %d syncs", mode(), syncs.Load())
		}
		d.Write(virtqtest.RegConfig+32, []byte{1})
		write()
		if syncs.Load() != 1 || mode() != 1 {
			t.Errorf("write-back again, mode %d: %d syncs", mode(), syncs.Load())
		}
		syncs.Store(0)
		d.Write(virtqtest.RegConfig+32, []byte{0})
	}
	// A driver that did not take the feature has no say.
	d.Start(featureFlush)
	d.Write(virtqtest.RegConfig+32, []byte{0})
	write()
	if n := syncs.Load(); n != 0 {
		t.Errorf("a driver without the feature made %d syncs", n)
	}
}

// TestManyBuffers moves requests of many buffers, some empty, in one call, or two where the
// kernel is not given all at once.
func TestManyBuffers(t *testing.T) {
	path := image(t, 64)
	f := &calls{File: open(t, path, false)}
	d := virtqtest.NewDriver(t, blk.New(blk.Config{Disk: f, Log: quiet}))
	d.Start(0)
	sent := []virtqtest.Buffer{{Data: header(out, 3)}}
	read := []virtqtest.Buffer{{Data: header(in, 3)}}
	var want []byte
	for i := range 24 {
		data := bytes.Repeat([]byte{byte(i)}, i*128%1024)
		want = append(want, data...)
		sent = append(sent, virtqtest.Buffer{Data: data})
		read = append(read, virtqtest.Buffer{Room: len(data)})
	}
	d.Rings[0].Add(append(sent, virtqtest.Buffer{Room: 1})...)
	if a := d.Answer(0); a.Room[0] != ok {
		t.Fatalf("write: status %d", a.Room[0])
	}
	d.Rings[0].Add(append(read, virtqtest.Buffer{Room: 1})...)
	a := d.Answer(0)
	if n := len(a.Room) - 1; a.Room[n] != ok || !bytes.Equal(a.Room[:n], want) {
		t.Errorf("read back: status %d, right: %v", a.Room[n], bytes.Equal(a.Room[:n], want))
	}
	if reads, writes := f.reads.Load(), f.writes.Load(); reads != 1 || writes != 2 {
		t.Errorf("%d reads and %d writes of the file, want one and two", reads, writes)
	}
}

// calls counts the calls of a file.
type calls struct {
	*blk.File
	reads, writes atomic.Int32
}

func (c *calls) ReadVectorAt(bufs [][]byte, off int64) (int, error) {
	c.reads.Add(1)
	return c.File.ReadVectorAt(bufs, off)
}

func (c *calls) WriteVectorAt(bufs [][]byte, off int64) (int, error) {
	c.writes.Add(1)
	return c.File.WriteVectorAt(bufs, off)
}

// TestFileThatShrank reads what is no longer there.
func TestFileThatShrank(t *testing.T) {
	path := image(t, 8)
	dev := blk.New(blk.Config{Disk: open(t, path, false), Log: quiet})
	d := virtqtest.NewDriver(t, dev)
	d.Start(0)
	if err := syscall.Truncate(path, 1024); err != nil {
		t.Fatal(err)
	}
	if s, _, n := request(d, in, 1, nil, 1024); s != ioErr || n != 512 {
		t.Errorf("status %d, %d bytes", s, n)
	}
	if got := dev.Stats().Errors; got != (blk.Errors{Other: 1}) {
		t.Errorf("counted as %+v", got)
	}
}

func TestLocks(t *testing.T) {
	path := image(t, 8)
	for _, c := range []struct {
		first, second bool // opened read-only
		together      bool
	}{{false, false, false}, {false, true, false}, {true, false, false}, {true, true, true}} {
		first, err := blk.OpenFile(path, c.first)
		if err != nil {
			t.Fatal(err)
		}
		second, err := blk.OpenFile(path, c.second)
		if (err == nil) != c.together {
			t.Errorf("read-only %v, then %v: %v", c.first, c.second, err)
		}
		for _, f := range []io.Closer{first, second} {
			if f != (*blk.File)(nil) {
				f.Close()
			}
		}
	}
	// Whoever held it has let go.
	open(t, path, false)
}
