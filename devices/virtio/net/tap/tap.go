// Package tap is a TAP of the host's as the port of a network device: frames go
// through the kernel's /dev/net/tun to an interface there, for a bridge or a route.
//
// Checksums and segments are left to be done both ways, by the header that the kernel
// and virtio share (IFF_VNET_HDR). A frame from the guest is written from where it
// lies in the guest's memory.
//
// Source: Documentation/networking/tuntap.rst and linux/if_tun.h of the kernel.
package tap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"warder/devices/iovec"
	"warder/devices/virtio/net"
)

const device = "/dev/net/tun"

// A TAP is an interface of the host's. It is a [net.Port].
type TAP struct {
	name   string
	mtu    int
	takes  net.Offloads
	queues []*queue
	out    [net.MaxPairs]outgoing // by the guest's queue pair

	stop    context.CancelFunc
	readers sync.WaitGroup
	ready   [net.MaxPairs]chan struct{} // by the guest's receive queue; capacity 1
	dropped atomic.Uint64
}

// outgoing is the frame that a queue pair is sending.
type outgoing struct {
	header [net.HeaderSize]byte
	pieces iovec.Vector
}

// queue is one of the TAP's queues.
type queue struct {
	fd    int
	file  *os.File // fd again, for the runtime's poller
	buf   [net.HeaderSize + net.MaxFrame]byte
	frame net.Frame
}

var (
	_ net.Port      = (*TAP)(nil)
	_ net.Offloader = (*TAP)(nil)
)

// Open takes the TAP with a name, which is made if there is none and this process may
// (CAP_NET_ADMIN), and which then goes with Close. It has as many queues as it can
// have, up to queues.
func Open(name string, queues int) (*TAP, error) {
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("TAP %q: a name has 1 to %d bytes", name, unix.IFNAMSIZ-1)
	}
	t := &TAP{name: name}
	for i := range t.ready {
		t.ready[i] = make(chan struct{}, 1)
	}
	if err := t.open(min(max(queues, 1), net.MaxPairs)); err != nil {
		return nil, errors.Join(fmt.Errorf("TAP %s: %w", name, err), t.Close())
	}
	return t, nil
}

func (t *TAP) open(queues int) error {
	q, multi, err := attachFirst(t.name, queues > 1)
	if err != nil {
		return err
	}
	t.queues = append(t.queues, q)
	for multi && len(t.queues) < queues {
		q, err := attach(t.name, unix.IFF_MULTI_QUEUE)
		if err != nil {
			return explain(t.name, err)
		}
		t.queues = append(t.queues, q)
	}
	t.takes = net.AllOffloads
	if unix.IoctlSetInt(q.fd, unix.TUNSETOFFLOAD, bits(t.takes)) != nil {
		t.takes &^= net.USO4 | net.USO6 // Linux before 6.2
	}
	if err := unix.IoctlSetInt(q.fd, unix.TUNSETOFFLOAD, 0); err != nil {
		return fmt.Errorf("TUNSETOFFLOAD: %w", err)
	}
	t.mtu, err = bringUp(t.name)
	return err
}

// attachFirst opens the TAP with several queues or one: one that exists may be of the
// other kind than is wanted.
func attachFirst(name string, multi bool) (q *queue, isMulti bool, err error) {
	kinds := []uint16{0, unix.IFF_MULTI_QUEUE}
	if multi {
		kinds[0], kinds[1] = kinds[1], kinds[0]
	}
	for _, kind := range kinds {
		q, err = attach(name, kind)
		if err != unix.EINVAL {
			return q, kind != 0, explain(name, err)
		}
	}
	return nil, false, explain(name, err)
}

// attach opens one queue. Its error is the kernel's.
func attach(name string, kind uint16) (*queue, error) {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: device, Err: err}
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | kind)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, net.HeaderSize)
	}
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TUNSETVNETLE, 1)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	// Not before it is attached: the poller would see an error for ever.
	return &queue{fd: fd, file: os.NewFile(uintptr(fd), device)}, nil
}

// explain says what to do about what the kernel said.
func explain(name string, err error) error {
	_, opening := errors.AsType[*fs.PathError](err)
	switch {
	case err == nil:
		return nil
	case opening && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)):
		return fmt.Errorf("this host has no %s: load its driver with \"modprobe tun\": %w", device, err)
	case opening && errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("this user may not open %s: give it read and write access: %w", device, err)
	case err == unix.EPERM:
		return fmt.Errorf("this user may neither make it nor use it; as root: ip tuntap add dev %s mode tap user $USER multi_queue && ip link set %s up: %w", name, name, err)
	case err == unix.EBUSY:
		return fmt.Errorf("it is in use by another program or VM, give each its own: %w", err)
	case err == unix.EINVAL:
		return fmt.Errorf("there is an interface of this name that is no TAP, choose another name: %w", err)
	}
	return err
}

// bringUp brings the interface up if it is not, and returns its MTU. Whoever may not
// bring it up has had it made, and brings it up himself.
func bringUp(name string) (mtu int, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return 0, fmt.Errorf("its flags: %w", err)
	}
	if ifr.Uint16()&unix.IFF_UP == 0 {
		ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil && err != unix.EPERM {
			return 0, fmt.Errorf("bring it up: %w", err)
		}
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFMTU, ifr); err != nil {
		return 0, fmt.Errorf("its MTU: %w", err)
	}
	return int(ifr.Uint32()), nil
}

// Name is the interface's name on the host.
func (t *TAP) Name() string { return t.name }

// MTU is the interface's, when it was opened, in bytes.
func (t *TAP) MTU() int { return t.mtu }

// Dropped counts frames that the kernel did not take, as it does while the interface
// is down, and those of the kernel's that make no sense.
func (t *TAP) Dropped() uint64 { return t.dropped.Load() }

// Takes implements net.Offloader.
func (t *TAP) Takes() net.Offloads { return t.takes }

// SetOffloads implements net.Offloader. What the kernel leaves to be done all the
// same, the device does.
func (t *TAP) SetOffloads(o net.Offloads) {
	// It holds for all queues.
	_ = unix.IoctlSetInt(t.queues[0].fd, unix.TUNSETOFFLOAD, bits(o&t.takes))
}

func bits(o net.Offloads) (b int) {
	for _, bit := range []struct {
		o net.Offloads
		b int
	}{
		{net.Csum, unix.TUN_F_CSUM}, {net.TSO4, unix.TUN_F_TSO4}, {net.TSO6, unix.TUN_F_TSO6}, {net.TSOECN, unix.TUN_F_TSO_ECN},
		{net.USO4 | net.USO6, unix.TUN_F_USO4 | unix.TUN_F_USO6}, // the kernel takes them together alone
	} {
		if o&bit.o == bit.o {
			b |= bit.b
		}
	}
	return b
}

// Start implements net.Port.
func (t *TAP) Start(r net.Receiver) error {
	ctx, cancel := context.WithCancel(context.Background())
	t.stop = cancel
	for _, q := range t.queues {
		if err := q.file.SetReadDeadline(time.Time{}); err != nil {
			t.Stop()
			return fmt.Errorf("TAP %s: %w", t.name, err)
		}
		t.readers.Go(func() { t.read(ctx, q, r) })
	}
	return nil
}

// past is a deadline that has gone by.
var past = time.Unix(1, 0)

// Stop implements net.Port. Frames that the kernel has for the guest stay there.
func (t *TAP) Stop() {
	t.stop()
	for _, q := range t.queues {
		_ = q.file.SetReadDeadline(past) // its error would be that of a closed file
	}
	t.readers.Wait()
}

// Close gives the TAP back. No device has it started.
func (t *TAP) Close() error {
	var errs []error
	for _, q := range t.queues {
		errs = append(errs, q.file.Close())
	}
	t.queues = nil
	return errors.Join(errs...)
}

// read delivers what comes in one queue until ctx ends.
func (t *TAP) read(ctx context.Context, q *queue, r net.Receiver) {
	for {
		n, err := q.file.Read(q.buf[:])
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			// The interface is down, or gone for good. There is nothing to read
			// until somebody brings it up, which the poller tells.
			if errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EBADFD) {
				return
			}
			t.dropped.Add(1)
			continue
		}
		if err := parse(&q.frame, q.buf[:n]); err != nil {
			t.dropped.Add(1)
			continue
		}
		t.deliver(ctx, &q.frame, r)
	}
}

// flagDataValid is VIRTIO_NET_HDR_F_DATA_VALID.
const flagDataValid = 2

var errShort = errors.New("frame without a header")

// parse makes f the frame in b, behind its header.
func parse(f *net.Frame, b []byte) error {
	if len(b) < net.HeaderSize {
		return errShort
	}
	f.Fill(b[net.HeaderSize:])
	h := [net.HeaderSize]byte(b)
	if err := f.SetHeader(&h, net.AllOffloads, net.MaxMTU); err != nil {
		return err
	}
	f.CsumValid = h[0]&flagDataValid != 0 // the kernel may be believed
	return nil
}

// deliver waits for room for f. Meanwhile the kernel queues what comes, and drops
// what is too much.
func (t *TAP) deliver(ctx context.Context, f *net.Frame, r net.Receiver) {
	queue := r.Queue(f)
	waited := false
	for part := 0; ; waited = true {
		var err error
		if part, err = r.Deliver(queue, f, part); err != net.ErrFull {
			if waited {
				t.Ready(queue) // other readers may wait for the same room
			}
			return
		}
		select {
		case <-t.ready[queue]:
		case <-ctx.Done():
			return
		}
	}
}

// Ready implements net.Port.
func (t *TAP) Ready(queue int) {
	select {
	case t.ready[queue] <- struct{}{}:
	default:
	}
}

// Send implements net.Port.
func (t *TAP) Send(f *net.Frame) {
	q := t.queues[f.Queue%len(t.queues)]
	if err := t.out[f.Queue].write(q.fd, f); err != nil {
		t.dropped.Add(1)
	}
	f.Release()
}

// write writes f with its header to fd, a TAP, which takes a frame or does not.
func (o *outgoing) write(fd int, f *net.Frame) error {
	o.header = f.Header(0)
	o.pieces.Reset()
	o.pieces.Add(o.header[:])
	o.pieces.Add(f.Head)
	for _, p := range f.Body {
		o.pieces.Add(p)
	}
	for {
		if _, err := o.pieces.Write(fd); err != unix.EINTR {
			return err
		}
	}
}
