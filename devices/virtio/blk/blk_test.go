package blk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"warder/devices/virtio/blk"
	"warder/devices/virtio/virtqtest"
)

const (
	in, out, flush, getID, discard, zeroes = 0, 1, 4, 8, 11, 13

	ok, ioErr, unsupported = 0, 1, 2

	featureReadOnly = 1 << 5
	featureFlush    = 1 << 9
)

var quiet = slog.New(slog.DiscardHandler)

func header(kind uint32, sector uint64) []byte {
	b := binary.LittleEndian.AppendUint32(nil, kind)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint64(b, sector)
}

// request sends a request with data to write, or room to read into, and
// returns the status and what was read.
func request(d *virtqtest.Driver, kind uint32, sector uint64, data []byte, room int) (status byte, read []byte, written uint32) {
	bufs := []virtqtest.Buffer{{Data: header(kind, sector)}}
	if data != nil {
		bufs = append(bufs, virtqtest.Buffer{Data: data})
	}
	if room > 0 {
		bufs = append(bufs, virtqtest.Buffer{Room: room})
	}
	d.Rings[0].Add(append(bufs, virtqtest.Buffer{Room: 1})...)
	a := d.Answer(0)
	return a.Room[len(a.Room)-1], a.Room[:len(a.Room)-1], a.Written
}

// image is a disk of n sectors in a file.
func image(t testing.TB, n int) string {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, bytes.Repeat([]byte("0123456789abcdef"), n*32), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string, readOnly bool) *blk.File {
	f, err := blk.OpenFile(path, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestReadWriteFlush(t *testing.T) {
	path := image(t, 8)
	dev := blk.New(blk.Config{Disk: open(t, path, false), Serial: "serial-number", Log: quiet})
	d := virtqtest.NewDriver(t, dev)
	d.Start(featureFlush)
	if got := d.Get(virtqtest.RegConfig); got != 8 {
		t.Errorf("capacity %d sectors, want 8", got)
	}
	data := bytes.Repeat([]byte("new "), 256)
	if s, _, n := request(d, out, 2, data, 0); s != ok || n != 1 {
		t.Errorf("write: status %d, %d bytes", s, n)
	}
	if s, _, _ := request(d, flush, 0, nil, 0); s != ok {
		t.Errorf("flush: status %d", s)
	}
	s, got, n := request(d, in, 1, nil, 2048)
	want := append(bytes.Repeat([]byte("0123456789abcdef"), 32), data...)
	want = append(want, bytes.Repeat([]byte("0123456789abcdef"), 32)...)
	if s != ok || n != 2049 || !bytes.Equal(got, want) {
		t.Errorf("read: status %d, %d bytes, right: %v", s, n, bytes.Equal(got, want))
	}
	onDisk, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(onDisk[1024:2048], data) {
		t.Errorf("the file does not have what was written (%v)", err)
	}
	if s, id, _ := request(d, getID, 0, nil, 20); s != ok || strings.TrimRight(string(id), "\x00") != "serial-number" {
		t.Errorf("id %q, status %d", id, s)
	}
	if st := dev.Stats(); st != (blk.Stats{Read: 2048, Written: 1024, Flushes: 1}) {
		t.Errorf("statistics: %+v", st)
	}
}

func TestRefusals(t *testing.T) {
	path := image(t, 8)
	d := virtqtest.NewDriver(t, blk.New(blk.Config{Disk: open(t, path, false), Log: quiet}))
	d.Start(0)
	before, _ := os.ReadFile(path)
	sector := make([]byte, 512)
	for name, c := range map[string]struct {
		kind   uint32
		sector uint64
		data   []byte
		room   int
		want   byte
	}{
		"read past the end":        {in, 8, nil, 512, ioErr},
		"read over the end":        {in, 7, nil, 1024, ioErr},
		"read at the top":          {in, 1<<64 - 1, nil, 512, ioErr},
		"read that wraps in bytes": {in, 1 << 55, nil, 512, ioErr},
		"read half a sector":       {in, 0, nil, 256, ioErr},
		"write past the end":       {out, 8, sector, 0, ioErr},
		"write over the end":       {out, 7, make([]byte, 1024), 0, ioErr},
		"write half a sector":      {out, 0, sector[:100], 0, ioErr},
		"unknown":                  {77, 0, nil, 512, unsupported},
	} {
		if s, _, _ := request(d, c.kind, c.sector, c.data, c.room); s != c.want {
			t.Errorf("%s: status %d, want %d", name, s, c.want)
		}
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("a refused request changed the disk")
	}
}

func TestMalformedRequests(t *testing.T) {
	for name, bufs := range map[string][]virtqtest.Buffer{
		"short header": {{Data: make([]byte, 15)}, {Room: 1}},
		"no status":    {{Data: header(in, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			d := virtqtest.NewDriver(t, blk.New(blk.Config{Disk: open(t, image(t, 8), false), Log: quiet}))
			d.Start(0)
			d.Rings[0].Add(bufs...)
			d.Kick(0)
			d.NeedsReset()
			d.Start(0)
			if s, _, _ := request(d, in, 0, nil, 512); s != ok {
				t.Errorf("after a reset: status %d", s)
			}
		})
	}
}

func TestReadOnly(t *testing.T) {
	for name, dev := range map[string]*blk.Device{
		"opened so": blk.New(blk.Config{Disk: open(t, image(t, 8), true), ReadOnly: true, Log: quiet}),
		"by config": blk.New(blk.Config{Disk: open(t, image(t, 8), false), ReadOnly: true, Log: quiet}),
	} {
		d := virtqtest.NewDriver(t, dev)
		if d.Offered()&featureReadOnly == 0 || d.Offered()&featureFlush != 0 {
			t.Errorf("%s: offered %#x", name, d.Offered())
		}
		d.Start(featureReadOnly)
		if s, _, _ := request(d, out, 0, make([]byte, 512), 0); s != ioErr {
			t.Errorf("%s: a write got status %d", name, s)
		}
		if s, _, _ := request(d, in, 0, nil, 512); s != ok {
			t.Errorf("%s: a read got status %d", name, s)
		}
	}
}

// failing is a disk whose host has a problem.
type failing struct{ err error }

func (f failing) Size() int64                            { return 1 << 20 }
func (f failing) ReadAt(p []byte, _ int64) (int, error)  { return len(p) / 2, f.err }
func (f failing) WriteAt(p []byte, _ int64) (int, error) { return len(p) / 2, f.err }
func (f failing) Sync() error                            { return f.err }

func TestHostErrorsAreTheGuestsIOErrors(t *testing.T) {
	for err, want := range map[error]blk.Errors{
		&os.PathError{Err: syscall.EIO}: {IO: 3}, syscall.ENOSPC: {NoSpace: 3}, syscall.EDQUOT: {NoSpace: 3}, syscall.EROFS: {ReadOnly: 3},
		io.EOF: {Other: 3}, errors.New("other"): {Other: 3},
	} {
		dev := blk.New(blk.Config{Disk: failing{err}, Log: quiet})
		d := virtqtest.NewDriver(t, dev)
		d.Start(featureFlush)
		for _, kind := range []uint32{in, out, flush} {
			var data []byte
			room := 0
			switch kind {
			case in:
				room = 1024
			case out:
				data = make([]byte, 1024)
			}
			s, _, n := request(d, kind, 0, data, room)
			if s != ioErr {
				t.Errorf("%v in request %d: status %d", err, kind, s)
			}
			// Of a failed read only what is there without a gap counts as written.
			if want := map[uint32]uint32{in: 512, out: 1, flush: 1}[kind]; n != want {
				t.Errorf("%v in request %d: %d bytes written, want %d", err, kind, n, want)
			}
		}
		if got := dev.Stats().Errors; got != want {
			t.Errorf("%v: counted as %+v, want %+v", err, got, want)
		}
	}
}

// cached counts the syncs of a disk.
type cached struct {
	memory
	syncs *int
}

func (c cached) Sync() error { *c.syncs++; return nil }

// TestDriverWithoutFlush has nothing but the write to make it durable with.
func TestDriverWithoutFlush(t *testing.T) {
	for features, want := range map[uint64]int{0: 2, featureFlush: 0} {
		syncs := 0
		d := virtqtest.NewDriver(t, blk.New(blk.Config{Disk: cached{make(memory, 4096), &syncs}, Log: quiet}))
		d.Start(features)
		for sector := range uint64(2) {
			if s, _, _ := request(d, out, sector, make([]byte, 512), 0); s != ok {
				t.Errorf("write: status %d", s)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if syncs != want {
			t.Errorf("features %#x: %d syncs after two writes, want %d", features, syncs, want)
		}
	}
}

// gate is a disk whose reads of sector 0 wait.
type gate struct {
	failing
	open    chan struct{}
	waiting atomic.Int32
}

func (g *gate) ReadAt(p []byte, off int64) (int, error) {
	if off == 0 {
		g.waiting.Add(1)
		<-g.open
	}
	return len(p), nil
}

func TestSlowRequestsDoNotHoldUpOthers(t *testing.T) {
	g := &gate{open: make(chan struct{})}
	d := virtqtest.NewDriver(t, blk.New(blk.Config{Disk: g, Log: quiet}))
	d.Start(0)
	slow := d.Rings[0].Add(virtqtest.Buffer{Data: header(in, 0)}, virtqtest.Buffer{Room: 512}, virtqtest.Buffer{Room: 1})
	fast := d.Rings[0].Add(virtqtest.Buffer{Data: header(in, 1)}, virtqtest.Buffer{Room: 512}, virtqtest.Buffer{Room: 1})
	if a := d.Answer(0); a.Head != fast {
		t.Errorf("head %d was answered first, want %d", a.Head, fast)
	}
	close(g.open)
	if a := d.Answer(0); a.Head != slow {
		t.Errorf("head %d was answered then, want %d", a.Head, slow)
	}
}

func TestOpenFileExplains(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, n int) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, n), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		pipe:                         "neither a file nor a block device",
		filepath.Join(dir, "absent"): "no such file",
		dir:                          "share it",
		write("empty", 0):            "truncate -s",
		write("odd", 1000):           "truncate -s %512",
		"/dev/null":                  "neither a file nor a block device",
	} {
		for _, readOnly := range []bool{true, false} {
			if _, err := blk.OpenFile(path, readOnly); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, read-only %v: %v, want %q in it", path, readOnly, err, want)
			}
		}
	}
}

func FuzzDevice(f *testing.F) {
	play := func(kind, room byte) []byte {
		return append([]byte{0, 0, 1, 16, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 2, room, 1)
	}
	f.Add(play(in, 64))
	f.Add(append(play(out, 0), play(getID, 3)...))
	f.Add([]byte{1, 0, 1, 16 + 16, discard, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 1})
	f.Add([]byte{2, 1, 1, 16 + 16, zeroes, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 1})
	f.Add([]byte{12, 1, 32, 0, 12, 1, 60, 0})
	f.Fuzz(func(t *testing.T, program []byte) {
		d := virtqtest.Play(t, blk.New(blk.Config{Disk: droppable{make(memory, 64<<10), false}, Queues: 2, Log: quiet}), program)
		if s, _, n := request(d, in, 127, nil, 512); s != ok || n != 513 {
			t.Errorf("afterwards a read has status %d, %d bytes", s, n)
		}
	})
}

// memory is a disk in memory.
type memory []byte

// diskLock makes the accesses of several queues whole, as a real disk does.
var diskLock sync.Mutex

func (m memory) Size() int64 { return int64(len(m)) }

func (m memory) ReadAt(p []byte, off int64) (int, error) {
	diskLock.Lock()
	defer diskLock.Unlock()
	return copy(p, m[off:]), nil
}

func (m memory) WriteAt(p []byte, off int64) (int, error) {
	diskLock.Lock()
	defer diskLock.Unlock()
	return copy(m[off:], p), nil
}

func BenchmarkRead4K(b *testing.B) {
	d := virtqtest.NewDriver(b, blk.New(blk.Config{Disk: make(memory, 64<<10), Log: quiet}))
	d.Start(0)
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		d.Rings[0].Add(virtqtest.Buffer{Data: header(in, 0)}, virtqtest.Buffer{Room: 4096}, virtqtest.Buffer{Room: 1})
		d.Answer(0)
	}
}
