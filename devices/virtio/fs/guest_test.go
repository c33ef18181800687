package fs

import (
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// bytesSource and bytesSink stand for a chain's reader and writer.
type bytesSource struct{ b []byte }

func (s *bytesSource) Len() int { return len(s.b) }

func (s *bytesSource) Read(p []byte) (int, error) {
	if len(s.b) == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

func (s *bytesSource) CopyAt(w io.WriterAt, off int64, n int) (int, error) {
	n, err := w.WriteAt(s.b[:n], off)
	s.b = s.b[n:]
	return n, err
}

type bytesSink struct{ b []byte }

func (s *bytesSink) Len() int { return cap(s.b) - len(s.b) }

func (s *bytesSink) Write(p []byte) (int, error) {
	n := min(len(p), s.Len())
	s.b = append(s.b, p[:n]...)
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

func (s *bytesSink) CopyAt(r io.ReaderAt, off int64, n int) (int, error) {
	at := len(s.b)
	n, err := r.ReadAt(s.b[at:at+n], off)
	s.b = s.b[:at+n]
	return n, err
}

// guest plays the guest's kernel, one request at a time.
type guest struct {
	t testing.TB
	s *session
	c *call
}

func newDevice(t testing.TB, cfg Config) *Device {
	t.Helper()
	if cfg.Tag == "" {
		cfg.Tag = "share"
	}
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// mount makes a device and its guest, which has mounted it.
func mount(t testing.TB, cfg Config) guest {
	t.Helper()
	s, err := newDevice(t, cfg).newSession()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.forgetAll)
	g := guest{t, s, new(call)}
	if _, errno := g.ask(opInit, 0, cat(7, 40, 1<<20, ^uint32(0), zeros(48))); errno != 0 {
		t.Fatalf("init: %v", errno)
	}
	return g
}

// cat puts the arguments of a request together: integers in their width, text
// without an end, and bytes.
func cat(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = le.AppendUint32(b, uint32(p))
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		default:
			var err error
			if b, err = binary.Append(b, le, p); err != nil {
				panic(err)
			}
		}
	}
	return b
}

func zeros(n int) []byte { return make([]byte, n) }

// ask sends a request and returns what follows the reply's header.
func (g guest) ask(op opcode, node uint64, args []byte) ([]byte, unix.Errno) {
	g.t.Helper()
	return g.askRoom(op, node, args, 64<<10)
}

func (g guest) askRoom(op opcode, node uint64, args []byte, room int) ([]byte, unix.Errno) {
	g.t.Helper()
	const unique = 0x1122334455667788
	request := cat(uint32(requestHeaderSize+len(args)), uint32(op), uint64(unique), node, zeros(16), args)
	head, data := &bytesSink{make([]byte, 0, replyHeaderSize)}, &bytesSink{make([]byte, 0, room)}
	n, err := g.s.serve(g.c, &bytesSource{request}, head, data)
	if err != nil {
		g.t.Fatalf("opcode %d: %v", op, err)
	}
	if n == 0 {
		return nil, 0
	}
	errno := unix.Errno(-int32(le.Uint32(head.b[4:])))
	payload := data.b
	if errno != 0 {
		payload = nil
	}
	if size := int(le.Uint32(head.b)); size != n || size != replyHeaderSize+len(payload) || le.Uint64(head.b[8:]) != unique {
		g.t.Fatalf("opcode %d: header % x for %d bytes", op, head.b, replyHeaderSize+len(payload))
	}
	return payload, errno
}

// entry is what the guest learns of a file.
type entry struct {
	node, ino, size uint64
	mode, nlink     uint32
	uid, gid        uint32
}

func parseEntry(b []byte) entry {
	return parseAttr(entry{node: le.Uint64(b)}, b[40:])
}

func parseAttr(e entry, b []byte) entry {
	e.ino, e.size = le.Uint64(b), le.Uint64(b[8:])
	e.mode, e.nlink = le.Uint32(b[60:]), le.Uint32(b[64:])
	e.uid, e.gid = le.Uint32(b[68:]), le.Uint32(b[72:])
	return e
}

func (g guest) askEntry(op opcode, node uint64, args []byte) (entry, unix.Errno) {
	g.t.Helper()
	b, errno := g.ask(op, node, args)
	if errno != 0 {
		return entry{}, errno
	}
	return parseEntry(b), 0
}

func (g guest) lookup(dir uint64, name string) (entry, unix.Errno) {
	g.t.Helper()
	return g.askEntry(opLookup, dir, cat(name, "\x00"))
}

// must fails the test on an error of the guest's request.
func must[T any](g guest) func(T, unix.Errno) T {
	return func(v T, errno unix.Errno) T {
		g.t.Helper()
		if errno != 0 {
			g.t.Fatal(errno)
		}
		return v
	}
}

func (g guest) find(dir uint64, name string) entry {
	g.t.Helper()
	e, errno := g.lookup(dir, name)
	if errno != 0 {
		g.t.Fatalf("lookup %q: %v", name, errno)
	}
	return e
}

func (g guest) getattr(node uint64) (entry, unix.Errno) {
	g.t.Helper()
	b, errno := g.ask(opGetattr, node, zeros(16))
	if errno != 0 {
		return entry{}, errno
	}
	return parseAttr(entry{node: node}, b[16:]), 0
}

func (g guest) open(node uint64, flags int) (uint64, unix.Errno) {
	g.t.Helper()
	return g.opened(g.ask(opOpen, node, cat(flags, 0)))
}

func (g guest) opendir(node uint64) (uint64, unix.Errno) {
	g.t.Helper()
	return g.opened(g.ask(opOpendir, node, cat(0, 0)))
}

func (g guest) opened(b []byte, errno unix.Errno) (uint64, unix.Errno) {
	if errno != 0 {
		return 0, errno
	}
	return le.Uint64(b[len(b)-openReply:]), 0
}

func createArgs(name string, flags int, mode int) []byte {
	return cat(flags, mode, 0, 0, name, "\x00")
}

func (g guest) create(dir uint64, name string, flags, mode int) (entry, uint64, unix.Errno) {
	g.t.Helper()
	b, errno := g.ask(opCreate, dir, createArgs(name, flags, mode))
	if errno != 0 {
		return entry{}, 0, errno
	}
	return parseEntry(b), le.Uint64(b[entrySize:]), 0
}

func readArgs(handle uint64, off uint64, size int) []byte {
	return cat(handle, off, size, 0, uint64(0), 0, 0)
}

func (g guest) read(node, handle uint64, off uint64, size int) (string, unix.Errno) {
	g.t.Helper()
	b, errno := g.ask(opRead, node, readArgs(handle, off, size))
	return string(b), errno
}

func writeArgs(handle uint64, off uint64, data string, flags int) []byte {
	return cat(handle, off, len(data), 0, uint64(0), flags, 0, data)
}

func (g guest) write(node, handle uint64, off uint64, data string, flags int) (int, unix.Errno) {
	g.t.Helper()
	b, errno := g.ask(opWrite, node, writeArgs(handle, off, data, flags))
	if errno != 0 {
		return 0, errno
	}
	return int(le.Uint32(b)), 0
}

func (g guest) release(op opcode, node, handle uint64) unix.Errno {
	g.t.Helper()
	_, errno := g.ask(op, node, cat(handle, 0, 0, uint64(0)))
	return errno
}

func (g guest) setattr(node uint64, a change) (entry, unix.Errno) {
	g.t.Helper()
	b, errno := g.ask(opSetattr, node, cat(a.valid, 0, a.handle, a.size, uint64(0),
		uint64(a.atime.Sec), uint64(a.mtime.Sec), uint64(0), uint32(a.atime.Nsec), uint32(a.mtime.Nsec), 0,
		a.mode, 0, a.uid, a.gid, 0))
	if errno != 0 {
		return entry{}, errno
	}
	return parseAttr(entry{node: node}, b[16:]), 0
}

func (g guest) forget(node, count uint64) {
	g.t.Helper()
	g.ask(opForget, node, cat(count))
}

// slurp opens and reads a file as a program in the guest would.
func (g guest) slurp(node uint64) (string, unix.Errno) {
	g.t.Helper()
	h, errno := g.open(node, unix.O_RDONLY)
	if errno != 0 {
		return "", errno
	}
	defer g.release(opRelease, node, h)
	return g.read(node, h, 0, 4096)
}

// listing reads a whole directory with replies of at most size bytes.
func (g guest) listing(op opcode, node uint64, size int) []string {
	g.t.Helper()
	h := must[uint64](g)(g.opendir(node))
	defer g.release(opReleasedir, node, h)
	var names []string
	off := uint64(0)
	for {
		b, errno := g.ask(op, node, readArgs(h, off, size))
		if errno != 0 {
			g.t.Fatal(errno)
		}
		if len(b) > size {
			g.t.Fatalf("%d bytes for %d", len(b), size)
		}
		if len(b) == 0 {
			return names
		}
		for len(b) > 0 {
			if op == opReaddirplus {
				b = b[entrySize:]
			}
			off = le.Uint64(b[8:])
			n := int(le.Uint32(b[16:]))
			names = append(names, string(b[direntSize:direntSize+n]))
			b = b[direntSize+(n+7)&^7:]
		}
	}
}

// tree makes a directory to share beside a file that no guest must reach.
func tree(t testing.TB) (share, secret string) {
	t.Helper()
	return treeIn(t, t.TempDir())
}

func treeIn(t testing.TB, top string) (share, secret string) {
	t.Helper()
	share, secret = filepath.Join(top, "share"), filepath.Join(top, "secret")
	if err := os.Mkdir(share, 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, secret, "secret")
	return share, secret
}

func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
