package tap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/devices/virtio/net"
	"warder/internal/testkvm"
)

// open makes a TAP of its own, which takes rights that not every test run has.
func open(t testing.TB, queues int) *TAP {
	t.Helper()
	tap, err := Open(fmt.Sprintf("wtest%d", os.Getpid()%100000), queues)
	if err != nil {
		testkvm.Missing(t, err.Error())
	}
	t.Cleanup(func() {
		if err := tap.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return tap
}

// kernel is the other side of a TAP: the host's interface.
type kernel struct {
	t  testing.TB
	fd int
}

// etherType of the tests' frames, which the kernel has nothing to say to (IEEE 802,
// local experiments).
const etherType = 0x88b5

func attachKernel(t testing.TB, tap *TAP) kernel {
	t.Helper()
	const network = etherType>>8 | etherType&0xff<<8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, network)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	ifr, err := unix.NewIfreq(tap.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: network, Ifindex: int(ifr.Uint32())}); err != nil {
		t.Fatal(err)
	}
	tv := unix.Timeval{Sec: 20}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	return kernel{t, fd}
}

func frame(n int) []byte {
	b := bytes.Repeat([]byte{0xff}, n)
	copy(b[6:], []byte{2, 0, 0, 0, 0, 1})
	binary.BigEndian.PutUint16(b[12:], etherType)
	for i := 14; i < n; i++ {
		b[i] = byte(i * 5)
	}
	return b
}

// guest is a receiver that is full now and then.
type guest struct {
	mu     sync.Mutex
	frames [][]byte
	full   int // deliveries to refuse
	got    chan struct{}
	refuse chan struct{}
}

func (g *guest) Queue(*net.Frame) int { return 1 }

func (g *guest) Deliver(queue int, f *net.Frame, part int) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.full > 0 {
		g.full--
		g.refuse <- struct{}{}
		return part + 1, net.ErrFull
	}
	b := bytes.Clone(f.Head)
	for _, p := range f.Body {
		b = append(b, p...)
	}
	if bytes.Equal(b[12:14], []byte{etherType >> 8, etherType & 0xff}) { // the kernel has things to say by itself
		g.frames = append(g.frames, b)
		g.got <- struct{}{}
	}
	return 0, nil
}

func TestBothWays(t *testing.T) {
	for _, queues := range []int{1, 4} {
		tap := open(t, queues)
		if tap.MTU() != 1500 || len(tap.queues) != queues {
			t.Fatalf("MTU %d, %d queues", tap.MTU(), len(tap.queues))
		}
		k := attachKernel(t, tap)
		g := &guest{got: make(chan struct{}, 100), refuse: make(chan struct{}, 100)}
		tap.SetOffloads(net.AllOffloads)
		for range 3 { // a driver comes and goes
			if err := tap.Start(g); err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{60, net.HeadSize, net.HeadSize + 1, 1514} {
				b := frame(n)
				var f net.Frame
				f.Fill(b[:20], b[20:n/2], nil, b[n/2:])
				f.Queue = 3
				tap.Send(&f)
				buf := make([]byte, 2000)
				if m, err := unix.Read(k.fd, buf); err != nil || !bytes.Equal(buf[:m], b) {
					t.Fatalf("of %d bytes the kernel got %d others, %v", n, m, err)
				}

				g.mu.Lock()
				g.full, g.frames = 2, nil
				g.mu.Unlock()
				if _, err := unix.Write(k.fd, b); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					<-g.refuse
					tap.Ready(1)
				}
				<-g.got
				if !bytes.Equal(g.frames[0], b) {
					t.Fatalf("of %d bytes the guest got %d others", n, len(g.frames[0]))
				}
			}
			// Its driver goes while a frame waits for room.
			g.mu.Lock()
			g.full = 10
			g.mu.Unlock()
			if _, err := unix.Write(k.fd, frame(60)); err != nil {
				t.Fatal(err)
			}
			<-g.refuse
			tap.Stop()
			for len(g.refuse) > 0 {
				<-g.refuse
			}
		}
		if tap.Dropped() != 0 {
			t.Errorf("%d frames were dropped", tap.Dropped())
		}
		tap.Close()
		tap.queues = nil
	}
}

// TestReadersShareRoom has several readers wait for room in one receive queue. The guest
// says once that there is some.
func TestReadersShareRoom(t *testing.T) {
	const readers = 4
	tap := &TAP{}
	for i := range tap.ready {
		tap.ready[i] = make(chan struct{}, 1)
	}
	g := &guest{full: readers, got: make(chan struct{}, readers), refuse: make(chan struct{}, readers)}
	var all sync.WaitGroup
	for range readers {
		all.Go(func() {
			var f net.Frame
			f.Fill(frame(60))
			tap.deliver(t.Context(), &f, g)
		})
	}
	for range readers {
		<-g.refuse
	}
	tap.Ready(1)
	all.Wait()
	if len(g.frames) != readers {
		t.Errorf("%d frames came", len(g.frames))
	}
}

func TestNothingIsAllocated(t *testing.T) {
	tap := open(t, 1)
	b := frame(1500)
	var f net.Frame
	f.Fill(b)
	tap.Send(&f)
	if n := testing.AllocsPerRun(100, func() { tap.Send(&f) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	if _, err := Open("a name too long for this", 1); err == nil || !strings.Contains(err.Error(), "1 to 15 bytes") {
		t.Error(err)
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{&os.PathError{Op: "open", Path: device, Err: unix.ENOENT}, "modprobe tun"},
		{&os.PathError{Op: "open", Path: device, Err: unix.EACCES}, "read and write access"},
		{unix.EPERM, "ip tuntap add dev x mode tap"},
		{unix.EBUSY, "in use"},
		{unix.EINVAL, "no TAP"},
	} {
		if err := explain("x", c.err); !strings.Contains(err.Error(), c.want) || !errors.Is(err, c.err) && errors.Unwrap(err) == nil {
			t.Errorf("%v: %v", c.err, err)
		}
	}
}

// TestTaken opens TAPs that cannot be.
func TestTaken(t *testing.T) {
	tap := open(t, 1)
	if _, err := Open(tap.Name(), 1); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a TAP twice: %v", err)
	}
	if _, err := Open("lo", 1); !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "no TAP") {
		t.Errorf("lo as a TAP: %v", err)
	}
	if err := tap.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	again, err := Open(tap.Name(), 2)
	if err != nil {
		t.Fatalf("after %v: %v", time.Since(start), err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
