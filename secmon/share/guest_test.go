package share_test

import (
	"encoding/binary"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"warder/devices/virtio"
	"warder/devices/virtio/fs"
	"warder/devices/virtio/virtqtest"
	"warder/secmon/event"
	"warder/secmon/share"
)

// Operations of FUSE (include/uapi/linux/fuse.h).
const (
	opLookup  = 1
	opSetattr = 4
	opOpen    = 14
	opRead    = 15
	opWrite   = 16
	opInit    = 26
	opCreate  = 35
	opCopy    = 47

	headerSize, entrySize, openSize = 40, 128, 16
)

// guest is a VM's driver of virtio-fs, a request at a time.
type guest struct {
	t testing.TB
	*virtqtest.Driver
}

// world is a monitor and what it tells.
type world struct {
	t   testing.TB
	mon *share.Monitor

	mu               sync.Mutex
	events           []event.Event
	block            func(*event.Event) bool
	content, message int
}

func newWorld(t testing.TB) *world {
	w := &world{t: t}
	w.mon = share.New(share.Config{
		Sink: w.take, Content: func() int { return w.content }, Message: func() int { return w.message }, Files: 8,
	})
	return w
}

func (w *world) take(e event.Event) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
	return w.block != nil && w.block(&e)
}

// told are the events since the last call.
func (w *world) told() []event.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	return events
}

// guest starts a VM that has a directory.
func (w *world) guest(name, dir string) guest {
	w.t.Helper()
	var watcher fs.Watcher
	var err error
	if w.mon != nil {
		if watcher, err = w.mon.Watch(name, dir); err != nil {
			w.t.Fatal(err)
		}
	}
	dev, err := fs.New(fs.Config{Tag: "x", Dir: dir, Watcher: watcher})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { dev.Close() })
	g := guest{w.t, virtqtest.NewDriver(w.t, dev)}
	g.Start(virtio.FEventIdx | virtio.FIndirectDesc)
	g.must(g.ask(opInit, 0, cat(uint32(7), uint32(40), uint32(1<<20), ^uint32(0), make([]byte, 48)), 64))
	return g
}

func cat(parts ...any) (p []byte) {
	for _, x := range parts {
		if s, ok := x.(string); ok {
			x = []byte(s)
		}
		p, _ = binary.Append(p, binary.LittleEndian, x)
	}
	return p
}

// ask sends a request of process 77 with user id 1000.
func (g guest) ask(op uint32, node uint64, args []byte, room int) ([]byte, unix.Errno) {
	g.t.Helper()
	request := cat(uint32(headerSize+len(args)), op, uint64(1), node, uint32(1000), uint32(1000), uint32(77), uint32(0), args)
	const reply = 16
	g.Rings[1].Add(virtqtest.Buffer{Data: request}, virtqtest.Buffer{Room: reply}, virtqtest.Buffer{Room: room})
	a := g.Answer(1)
	if int(a.Written) < reply {
		g.t.Fatalf("an answer of %d bytes", a.Written)
	}
	return a.Room[reply:a.Written], unix.Errno(-int32(binary.LittleEndian.Uint32(a.Room[4:])))
}

func (g guest) must(p []byte, errno unix.Errno) []byte {
	g.t.Helper()
	if errno != 0 {
		g.t.Fatal(errno)
	}
	return p
}

// open opens a file of the share's root, or of a directory there, and gives its node and its handle.
func (g guest) open(path string, flags uint32) (node, handle uint64) {
	g.t.Helper()
	node = 1
	if dir, name, ok := strings.Cut(path, "/"); ok {
		node = binary.LittleEndian.Uint64(g.must(g.ask(opLookup, node, cat(dir+"\x00"), entrySize)))
		path = name
	}
	if flags&unix.O_CREAT != 0 {
		p := g.must(g.ask(opCreate, node, cat(flags, uint32(0o644), uint32(0), uint32(0), path+"\x00"), entrySize+openSize))
		return binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[entrySize:])
	}
	node = binary.LittleEndian.Uint64(g.must(g.ask(opLookup, node, cat(path+"\x00"), entrySize)))
	return node, binary.LittleEndian.Uint64(g.must(g.ask(opOpen, node, cat(flags, uint32(0)), openSize)))
}

func (g guest) write(path string, flags uint32, off uint64, data string) unix.Errno {
	g.t.Helper()
	node, handle := g.open(path, flags)
	_, errno := g.ask(opWrite, node, cat(handle, off, uint32(len(data)), uint32(0), uint64(0), flags, uint32(0), data), 8)
	return errno
}

func (g guest) read(path string, off uint64, n int) (string, unix.Errno) {
	g.t.Helper()
	node, handle := g.open(path, unix.O_RDONLY)
	p, errno := g.ask(opRead, node, cat(handle, off, uint32(n), uint32(0), uint64(0), uint32(0), uint32(0)), n)
	return string(p), errno
}
