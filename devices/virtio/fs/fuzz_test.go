package fs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A script is a sequence of requests, each one
//
//	how(1) opcode(1) node(1) length(2) arguments(length)
//
// where how has the bits below. Node and handle numbers are small, so that scripts
// often name what exists.
const (
	howWrongSize = 1 << 0 // the header claims more than there is
	howFarNode   = 1 << 1 // the node is far off
	howLittle    = 1 << 2 // there is little room for the reply: the other bits, times 8
)

func step(how int, op opcode, node int, args ...any) []byte {
	b := cat(args...)
	return cat([]byte{byte(how), byte(op), byte(node)}, uint16(len(b)), b)
}

const secretToken = "6f2c8e-the-secret-9d41"

// fuzzTree is a share whose links all lead outside.
func fuzzTree(t testing.TB) (share, secret string) {
	share, secret = treeIn(t, memoryDir(t))
	put(t, secret, secretToken)
	put(t, filepath.Join(share, "file"), "inside")
	if err := os.Mkdir(filepath.Join(share, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"link": secret, "up": "..", "dir/up": "../.."} {
		if err := os.Symlink(target, filepath.Join(share, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(share, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	return share, secret
}

// memoryDir is a directory in which fsync costs nothing, if there is one.
func memoryDir(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "warder-fs")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

var initStep = step(0, opInit, 0, 7, 40, 1<<20, ^uint32(0), zeros(48))

// seeds are scripts that reach every operation; they are committed as the corpus too.
func seeds() [][]byte {
	find := func(node int, name string) []byte { return step(0, opLookup, node, name, "\x00") }
	return [][]byte{
		cat(initStep, find(1, "file"), step(0, opOpen, 2, unix.O_RDWR, 0), step(0, opRead, 2, readArgs(1, 0, 100)),
			step(0, opWrite, 2, writeArgs(1, 3, "data", 0)), step(0, opFlush, 2, uint64(1), zeros(16)),
			step(0, opFsync, 2, uint64(1), 1, 0), step(0, opLseek, 2, uint64(1), uint64(0), unix.SEEK_HOLE, 0),
			step(0, opFallocate, 2, uint64(1), uint64(0), uint64(99), 1, 0),
			step(0, opCopyFileRange, 2, uint64(1), uint64(0), uint64(2), uint64(1), uint64(50), uint64(3), uint64(0)),
			step(0, opRelease, 2, uint64(1), zeros(16)), step(0, opForget, 2, uint64(1))),
		cat(initStep, step(0, opOpendir, 1, 0, 0), step(0, opReaddir, 1, readArgs(1, 0, 4096)),
			step(0, opReaddirplus, 1, readArgs(1, 0, 4096)), step(0, opGetattr, 3, zeros(16)),
			step(0, opReadlink, 4), step(0, opFsyncdir, 1, uint64(1), 0, 0),
			step(0, opReleasedir, 1, uint64(1), zeros(16)), step(0, opBatchForget, 0, 2, 0, uint64(2), uint64(1), uint64(3), uint64(1))),
		cat(initStep, step(0, opMkdir, 1, 0o755, 0, "d\x00"), step(0, opMknod, 2, unix.S_IFREG|0o644, 0, 0, 0, "f\x00"),
			step(0, opSymlink, 2, "s\x00", "/etc\x00"), step(0, opLink, 1, uint64(3), "h\x00"),
			step(0, opRename, 2, uint64(1), "f\x00g\x00"), step(0, opRename2, 1, uint64(2), 2, 0, "g\x00s\x00"),
			step(0, opUnlink, 1, "h\x00"), step(0, opRmdir, 1, "d\x00"), step(0, opStatfs, 1),
			step(0, opSetattr, 3, setMode|setSize|setMtime, 0, uint64(0), uint64(9), zeros(40), 0o600, zeros(16))),
		cat(initStep, step(0, opCreate, 1, unix.O_RDWR, 0o644, 0, 0, "new\x00"), step(0, opCreate, 1, unix.O_RDWR, 0o644, 0, 0, "link\x00"),
			step(0, opCreate, 1, unix.O_WRONLY, 0o644, 0, 0, "fifo\x00"), find(1, "up"), find(2, "secret"), find(1, ".."),
			find(1, "../secret"), step(howFarNode, opGetattr, 1, zeros(16)), step(howWrongSize, opLookup, 1, "file\x00"),
			step(howLittle, opLookup, 1, "file\x00"), step(0, opSyncfs, 1, zeros(8)), step(0, opInterrupt, 0, uint64(1)),
			step(0, 39, 1, zeros(32)), step(0, opDestroy, 0), initStep),
	}
}

func FuzzRequests(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		limitFileSize(t)
		share, secret := fuzzTree(t)
		s, err := newDevice(t, Config{Dir: share, MaxNodes: 16, MaxPinned: 3, MaxHandles: 8}).newSession()
		if err != nil {
			t.Fatal(err)
		}
		defer s.forgetAll()
		c := new(call)
		for len(script) >= 5 {
			how, op, node := script[0], script[1], uint64(script[2])
			n := min(int(le.Uint16(script[3:])), len(script)-5)
			args := script[5 : 5+n]
			script = script[5+n:]
			runStep(t, s, c, how, op, node, args)
		}
		if got := get(t, secret); got != secretToken {
			t.Fatalf("the file outside holds %q", got)
		}
		var st unix.Stat_t
		if err := unix.Lstat(secret, &st); err != nil || st.Nlink != 1 || st.Mode != unix.S_IFREG|0o644 {
			t.Fatalf("the file outside has %d names and mode %o: %v", st.Nlink, st.Mode, err)
		}
		if list, err := os.ReadDir(filepath.Dir(secret)); err != nil || len(list) != 2 {
			t.Fatalf("outside there is %v: %v", list, err)
		}
	})
}

func runStep(t *testing.T, s *session, c *call, how, op byte, node uint64, args []byte) {
	size := uint32(requestHeaderSize + len(args))
	if how&howWrongSize != 0 {
		size += uint32(how)
	}
	if how&howFarNode != 0 {
		node |= 1 << 63
	}
	room := 4096
	if how&howLittle != 0 {
		room = int(how>>3) * 8
	}
	request := cat(size, uint32(op), uint64(op), node, zeros(16), args)
	head := &bytesSink{make([]byte, 0, min(room, replyHeaderSize))}
	data := &bytesSink{make([]byte, 0, max(room-replyHeaderSize, 0))}
	n, err := s.serve(c, &bytesSource{request}, head, data)
	if err != nil {
		t.Fatalf("opcode %d: %v", op, err)
	}
	if n > 0 && (n > room || int(le.Uint32(head.b)) != n || n < replyHeaderSize) {
		t.Fatalf("opcode %d: reply of %d bytes in %d, header % x", op, n, room, head.b)
	}
	if errno := -int32(0); n > 0 {
		errno = -int32(le.Uint32(head.b[4:]))
		if errno < 0 || errno > 133 {
			t.Fatalf("opcode %d: errno %d", op, errno)
		}
	}
	if bytes.Contains(data.b[:cap(data.b)], []byte(secretToken)) {
		t.Fatalf("opcode %d: the secret was read", op)
	}
	if most := 3 + len(s.handles.byID); s.nodes.pinned > most {
		t.Fatalf("%d nodes pinned, want %d at most", s.nodes.pinned, most)
	}
	if len(s.nodes.byID) > 16 || len(s.handles.byID) > 8 || len(s.nodes.byID) != len(s.nodes.byInode) {
		t.Fatalf("%d nodes, %d inodes, %d handles", len(s.nodes.byID), len(s.nodes.byInode), len(s.handles.byID))
	}
}

// limitFileSize keeps a fuzzer that found fallocate from filling the disk.
func limitFileSize(t testing.TB) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	limit := old
	limit.Cur = 64 << 20
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_FSIZE, &old) })
}

// TestEveryOpcode sends every opcode with nothing, and with arguments cut short
// everywhere: an error, and nothing happens.
func TestEveryOpcode(t *testing.T) {
	share, _ := fuzzTree(t)
	g := mount(t, Config{Dir: share})
	for op := range opcode(4200) {
		o, known := operations[op]
		_, errno := g.ask(op, rootID, nil)
		switch {
		case !known && errno != unix.ENOSYS:
			t.Errorf("opcode %d: %v", op, errno)
		case o.silent && errno != 0:
			t.Errorf("opcode %d answers", op)
		}
	}
	// What DESTROY among them did.
	g.ask(opInit, 0, cat(7, 40, 1<<20, 0, zeros(48)))
	for _, script := range seeds() {
		for len(script) > 0 {
			n := int(le.Uint16(script[3:]))
			op, args := opcode(script[1]), script[5:5+n]
			for cut := range min(n, minimumArguments(op)) {
				if _, errno := g.ask(op, rootID, args[:cut]); errno == 0 && !operations[op].silent {
					t.Errorf("opcode %d with %d bytes of arguments succeeds", op, cut)
				}
			}
			script = script[5+n:]
		}
	}
	if list, err := os.ReadDir(share); err != nil || len(list) != 5 {
		t.Errorf("the share now holds %v, %v", list, err)
	}
}

// minimumArguments is how many bytes of arguments an operation reads.
func minimumArguments(op opcode) int {
	switch op {
	case opInit, opMkdir, opLookup, opUnlink, opRmdir, opOpen, opMknod, opSymlink, opLink, opRename, opRename2, opCreate:
		return 8
	case opRead, opWrite, opRelease, opReaddir, opReaddirplus, opReleasedir, opSetattr:
		return 12
	case opFallocate, opLseek, opCopyFileRange, opFsync, opFsyncdir, opFlush:
		return 8
	default:
		return 0
	}
}
