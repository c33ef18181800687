package fs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"warder/devices/virtio"
	"warder/devices/virtio/virtqtest"
)

// driver drives a device as the guest's kernel does.
type driver struct {
	*virtqtest.Driver
	t testing.TB
}

func newDriver(t testing.TB, dev *Device) driver {
	d := driver{virtqtest.NewDriver(t, dev), t}
	d.start()
	return d
}

func (d driver) start() {
	d.Start(virtio.FEventIdx | virtio.FIndirectDesc)
	if _, errno := d.ask(opInit, 0, cat(7, 40, 1<<20, ^uint32(0), zeros(48)), 64); errno != 0 {
		d.t.Fatalf("init: %v", errno)
	}
}

func requestBytes(op opcode, node uint64, args []byte) []byte {
	return cat(uint32(requestHeaderSize+len(args)), uint32(op), uint64(op), node, zeros(16), args)
}

// ask sends a request in the pieces that Linux makes of it: header, arguments, room
// for the reply's header and for the rest.
func (d driver) ask(op opcode, node uint64, args []byte, room int) ([]byte, unix.Errno) {
	d.t.Helper()
	request := requestBytes(op, node, args)
	bufs := []virtqtest.Buffer{{Data: request[:requestHeaderSize]}, {Data: request[requestHeaderSize:]}, {Room: replyHeaderSize}}
	if room > 0 {
		bufs = append(bufs, virtqtest.Buffer{Room: room})
	}
	d.Rings[1].Add(bufs...)
	return d.reply(1)
}

func (d driver) reply(queue int) ([]byte, unix.Errno) {
	d.t.Helper()
	a := d.Answer(queue)
	if int(a.Written) < replyHeaderSize || int(a.Written) != int(le.Uint32(a.Room)) {
		d.t.Fatalf("%d bytes written, header % x", a.Written, a.Room[:min(len(a.Room), replyHeaderSize)])
	}
	return a.Room[replyHeaderSize:a.Written], unix.Errno(-int32(le.Uint32(a.Room[4:])))
}

func TestConfigurationSpace(t *testing.T) {
	share, _ := tree(t)
	d := newDevice(t, Config{Tag: "my-share", Dir: share})
	got := make([]byte, tagSize+4+2)
	d.ReadConfig(got, 0)
	if want := cat("my-share", zeros(28), 1, zeros(2)); string(got) != string(want) {
		t.Errorf("configuration %q, want %q", got, want)
	}
	for _, off := range []uint64{1 << 63, ^uint64(0), 40} {
		got[0] = 7
		if d.ReadConfig(got[:1], off); got[0] != 0 {
			t.Errorf("byte %d is %d", off, got[0])
		}
	}
}

func TestConfigErrors(t *testing.T) {
	share, secret := tree(t)
	for want, cfg := range map[string]Config{
		"tag":             {Dir: share},
		"36 bytes":        {Tag: strings.Repeat("x", 37), Dir: share},
		"no NUL":          {Tag: "a\x00b", Dir: share},
		"negative":        {Tag: "x", Dir: share, MaxNodes: -1},
		"no such file":    {Tag: "x", Dir: share + "/absent"},
		"not a directory": {Tag: "x", Dir: secret},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
}

func TestThroughTheQueue(t *testing.T) {
	share, _ := tree(t)
	content := strings.Repeat("0123456789abcdef", 4096)
	put(t, filepath.Join(share, "file"), content)
	dev := newDevice(t, Config{Dir: share})
	d := newDriver(t, dev)
	for cycle := range 3 {
		b, errno := d.ask(opLookup, rootID, cat("file\x00"), entrySize)
		if errno != 0 || parseEntry(b).size != uint64(len(content)) {
			t.Fatalf("lookup: %v, %v", b, errno)
		}
		node := parseEntry(b).node
		b, errno = d.ask(opOpen, node, cat(unix.O_RDWR, 0), openReply)
		if errno != 0 {
			t.Fatal(errno)
		}
		handle := le.Uint64(b)
		if b, errno = d.ask(opRead, node, readArgs(handle, 7, 65000), 65000); errno != 0 || string(b) != content[7:65007] {
			t.Errorf("cycle %d: read %d bytes, %v", cycle, len(b), errno)
		}

		// Data in pieces, header and reply in crumbs.
		request := requestBytes(opWrite, node, writeArgs(handle, 3, "written in pieces", 0))
		var bufs []virtqtest.Buffer
		for _, piece := range [][]byte{request[:1], request[1:39], request[39:41], request[41:82], request[82:90], request[90:]} {
			bufs = append(bufs, virtqtest.Buffer{Data: piece})
		}
		for _, room := range []int{1, 14, 2, 3, 4} {
			bufs = append(bufs, virtqtest.Buffer{Room: room})
		}
		d.Rings[1].AddIndirect(bufs...)
		if b, errno := d.reply(1); errno != 0 || le.Uint32(b) != 17 {
			t.Errorf("write: %v, %v", b, errno)
		}
		if got := get(t, filepath.Join(share, "file")); got[:21] != "012written in pieces4" {
			t.Errorf("the file begins with %q", got[:21])
		}
		put(t, filepath.Join(share, "file"), content)

		d.Rings[0].Add(virtqtest.Buffer{Data: requestBytes(opForget, node, cat(uint64(1)))})
		if a := d.Answer(0); a.Written != 0 {
			t.Errorf("forget has a reply of %d bytes", a.Written)
		}
		if _, errno := d.ask(opGetattr, node, zeros(16), attrReply); errno != unix.ESTALE {
			t.Errorf("forgotten node: %v", errno)
		}
		d.start() // reset and begin again
	}
}

// TestMalformedRequests: each has an answer, if there is room for one, and the next
// request is served.
func TestMalformedRequests(t *testing.T) {
	share, _ := tree(t)
	d := newDriver(t, newDevice(t, Config{Dir: share}))
	lookup := requestBytes(opLookup, rootID, cat("file\x00"))
	long := requestBytes(opLookup, rootID, cat("file\x00"))
	le.PutUint32(long, uint32(len(long)+1))
	short := requestBytes(opLookup, rootID, cat("file\x00"))
	le.PutUint32(short, requestHeaderSize-1)
	huge := requestBytes(opLookup, rootID, cat("file\x00"))
	le.PutUint32(huge, ^uint32(0))
	room := virtqtest.Buffer{Room: 200}
	for name, test := range map[string]struct {
		bufs []virtqtest.Buffer
		want unix.Errno
	}{
		"nothing but room":        {[]virtqtest.Buffer{room}, unix.EINVAL},
		"half a header":           {[]virtqtest.Buffer{{Data: lookup[:20]}, room}, unix.EINVAL},
		"longer than it is":       {[]virtqtest.Buffer{{Data: long}, room}, unix.EINVAL},
		"shorter than its header": {[]virtqtest.Buffer{{Data: short}, room}, unix.EINVAL},
		"very long":               {[]virtqtest.Buffer{{Data: huge}, room}, unix.EINVAL},
		"large arguments":         {[]virtqtest.Buffer{{Data: requestBytes(opLookup, rootID, zeros(maxArguments+1))}, room}, unix.EINVAL},
		"unknown operation":       {[]virtqtest.Buffer{{Data: requestBytes(4711, rootID, nil)}, room}, unix.ENOSYS},
		"room for a header only":  {[]virtqtest.Buffer{{Data: lookup}, {Room: replyHeaderSize}}, unix.EIO},
	} {
		d.Rings[1].Add(test.bufs...)
		if b, errno := d.reply(1); errno != test.want || len(b) != 0 {
			t.Errorf("%s: %v and %d bytes, want %v", name, errno, len(b), test.want)
		}
	}
	for name, bufs := range map[string][]virtqtest.Buffer{
		"no room":               {{Data: requestBytes(opMkdir, rootID, cat(0o755, 0, "dir\x00"))}},
		"room for half a reply": {{Data: requestBytes(opUnlink, rootID, cat("file\x00"))}, {Room: 15}},
	} {
		d.Rings[1].Add(bufs...)
		if a := d.Answer(1); a.Written != 0 {
			t.Errorf("%s: %d bytes written", name, a.Written)
		}
	}
	if list, _ := os.ReadDir(share); len(list) != 0 {
		t.Errorf("requests that could not be answered had effects: %v", list)
	}
	if _, errno := d.ask(opGetattr, rootID, zeros(16), attrReply); errno != 0 {
		t.Errorf("afterwards: %v", errno)
	}
}

// TestSlowRequestDoesNotBlockOthers holds a directory's position, as a listing of a
// slow file system does.
func TestSlowRequestDoesNotBlockOthers(t *testing.T) {
	share, _ := tree(t)
	g := mount(t, Config{Dir: share})
	handle := must[uint64](g)(g.opendir(rootID))
	r := virtqtest.NewRing(virtqtest.NewMemory(t), 16, 0, 64<<10)
	answers := make(chan struct{}, 16)
	q, kick := r.Queue(t, func() error { answers <- struct{}{}; return nil })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- virtio.Serve(ctx, g.s.queueLoops(q, 2)...) }()

	slow := &g.s.handles.byID[handle].seeker
	slow.Lock()
	room := virtqtest.Buffer{Room: 4096}
	listing := r.Add(virtqtest.Buffer{Data: requestBytes(opReaddir, rootID, readArgs(handle, 0, 4000))}, room)
	for range 5 {
		quick := r.Add(virtqtest.Buffer{Data: requestBytes(opGetattr, rootID, zeros(16))}, room)
		if err := kick.Signal(); err != nil {
			t.Fatal(err)
		}
		<-answers
		if a, ok := r.Take(); !ok || a.Head != quick || a.Written != replyHeaderSize+attrReply {
			t.Fatalf("answer %d of %d bytes, want that of the quick request %d", a.Head, a.Written, quick)
		}
	}
	slow.Unlock()
	<-answers
	if a, ok := r.Take(); !ok || a.Head != listing || a.Written <= replyHeaderSize {
		t.Errorf("answer %d of %d bytes, want the listing", a.Head, a.Written)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}

func FuzzQueue(f *testing.F) {
	send := func(queue byte, request []byte) []byte {
		// A chain of one buffer with the request and two for the reply.
		return cat([]byte{0, queue, 1, byte(len(request))}, request, []byte{2, replyHeaderSize / 8, 255})
	}
	init := send(1, requestBytes(opInit, 0, cat(7, 40, 1<<20, ^uint32(0), zeros(48))))
	f.Add(cat(init, send(1, requestBytes(opLookup, rootID, cat("file\x00"))), send(1, requestBytes(opOpen, 2, cat(2, 0))),
		send(1, requestBytes(opRead, 2, readArgs(1, 0, 100))), send(1, requestBytes(opWrite, 2, writeArgs(1, 0, "data", 0))),
		send(0, requestBytes(opForget, 2, cat(uint64(1))))))
	f.Add(cat(init, send(1, requestBytes(opOpendir, rootID, cat(0, 0))), send(1, requestBytes(opReaddirplus, rootID, readArgs(1, 0, 2000))),
		send(0, requestBytes(opBatchForget, 0, cat(1, 0, uint64(2), uint64(1)))), []byte{13, 0, 1}, init))
	f.Fuzz(func(t *testing.T, program []byte) {
		limitFileSize(t)
		share, secret := fuzzTree(t)
		virtqtest.Play(t, newDevice(t, Config{Dir: share, MaxNodes: 16, MaxPinned: 3, MaxHandles: 8, Watcher: curious{}}), program)
		if get(t, secret) != secretToken {
			t.Fatal("the file outside changed")
		}
	})
}
