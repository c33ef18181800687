package fs

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"warder/devices/virtio"
	"warder/devices/virtio/virtq"
)

const (
	// tagSize is the room for a tag in the configuration space, §5.11.4.
	tagSize = 36
	// workers is how many requests run at the same time.
	workers = 16

	defaultMaxNodes   = 1 << 18
	defaultMaxPinned  = 1 << 12
	defaultMaxHandles = 1 << 12
)

// Config describes a device.
type Config struct {
	// Tag is the name by which the guest mounts the directory: 1 to 36 bytes
	// without NUL.
	Tag string
	// Dir is the directory on the host. It is opened once, by New.
	Dir string
	// ReadOnly refuses every change with EROFS.
	ReadOnly bool
	// AllowOwner lets the guest change owners, as far as this process can.
	AllowOwner bool
	// CacheFor is for how long the guest may believe names and attributes without
	// asking again. Zero, the default: not at all.
	CacheFor time.Duration
	// Watcher sees what happens to the content of files. Nil: nobody does.
	Watcher Watcher
	// MaxNodes bounds the files that the guest knows at a time, those in its caches
	// included. Each costs some hundred bytes. Zero: 262144.
	MaxNodes int
	// MaxPinned bounds the descriptors of this process that keep the files used last
	// at hand; any other is opened anew when it is needed. Zero: 4096. It is lowered to
	// an eighth of what RLIMIT_NOFILE allows.
	MaxPinned int
	// MaxHandles bounds the files that the guest has open at a time, which cost two
	// descriptors each. Zero: 4096. It is lowered to an eighth of what RLIMIT_NOFILE
	// allows.
	MaxHandles int
}

// Device is a virtio file system device.
type Device struct {
	cfg  Config
	root *root
}

var _ virtio.Device = (*Device)(nil)

// New opens the directory. Close gives it back.
func New(cfg Config) (*Device, error) {
	if cfg.Tag == "" || len(cfg.Tag) > tagSize || bytes.IndexByte([]byte(cfg.Tag), 0) >= 0 {
		return nil, fmt.Errorf("virtio-fs: tag %q must have 1 to %d bytes and no NUL", cfg.Tag, tagSize)
	}
	if cfg.CacheFor < 0 || cfg.MaxNodes < 0 || cfg.MaxPinned < 0 || cfg.MaxHandles < 0 {
		return nil, errors.New("virtio-fs: CacheFor, MaxNodes, MaxPinned and MaxHandles cannot be negative")
	}
	cfg.MaxNodes = cmp.Or(cfg.MaxNodes, defaultMaxNodes)
	cfg.MaxPinned = cmp.Or(cfg.MaxPinned, defaultMaxPinned)
	cfg.MaxHandles = cmp.Or(cfg.MaxHandles, defaultMaxHandles)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, fmt.Errorf("virtio-fs: reading RLIMIT_NOFILE: %w", err)
	}
	cfg.MaxPinned = int(min(uint64(cfg.MaxPinned), limit.Cur/8))
	cfg.MaxHandles = int(min(uint64(cfg.MaxHandles), limit.Cur/8))
	r, err := openRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("virtio-fs: %w", err)
	}
	return &Device{cfg: cfg, root: r}, nil
}

// Close gives the directory back, once Run has returned.
func (d *Device) Close() error { return d.root.close() }

// Info describes the device: queues hiprio and one for requests.
func (d *Device) Info() virtio.Info {
	return virtio.Info{ID: virtio.IDFS, Name: "fs", QueueMax: []uint16{128, 512}}
}

// ReadConfig reads the configuration space, §5.11.4: the tag, and the number of
// request queues.
func (d *Device) ReadConfig(p []byte, off uint64) {
	var space [tagSize + 4]byte
	copy(space[:tagSize], d.cfg.Tag)
	le.PutUint32(space[tagSize:], 1)
	clear(p)
	if off < uint64(len(space)) {
		copy(p, space[off:])
	}
}

func (d *Device) newSession() (*session, error) {
	nodes, err := newNodes(d.root, d.cfg.MaxNodes, d.cfg.MaxPinned)
	if err != nil {
		return nil, err
	}
	return &session{
		root:     d.root,
		readOnly: d.cfg.ReadOnly,
		owner:    d.cfg.AllowOwner,
		cacheFor: d.cfg.CacheFor,
		watcher:  d.cfg.Watcher,
		nodes:    nodes,
		handles:  newHandles(nodes, d.cfg.MaxHandles),
	}, nil
}

// Run serves the queues until ctx ends and forgets what the guest had open. It waits
// for requests at work, which end when the host's file system answers.
func (d *Device) Run(ctx context.Context, _ uint64, queues []*virtq.Queue) error {
	if len(queues) != 2 {
		return fmt.Errorf("virtio-fs: %d queues, want 2", len(queues))
	}
	s, err := d.newSession()
	if err != nil {
		return err
	}
	defer s.forgetAll()
	// Without a driver's queues there is nothing to do but to wait for the reset.
	loops := []func(context.Context) error{virtio.Rest}
	if q := queues[0]; q != nil {
		// FORGET and INTERRUPT never wait for the host's file system, nor for others.
		loops = append(loops, s.queueLoops(q, 1)...)
	}
	if q := queues[1]; q != nil {
		loops = append(loops, s.queueLoops(q, workers)...)
	}
	return virtio.Serve(ctx, loops...)
}

// queueLoops serve the requests of one queue, as many at a time as there are workers.
func (s *session) queueLoops(q *virtq.Queue, workers int) []func(context.Context) error {
	return virtio.Workers(q, workers, func() func(context.Context, *virtq.Chain) error {
		c := new(call)
		return func(_ context.Context, request *virtq.Chain) error { return s.serveChain(c, q, request) }
	})
}

// serveChain answers one request. The header of the reply has a place of its own,
// since it tells the length of what is written after it.
func (s *session) serveChain(c *call, q *virtq.Queue, request *virtq.Chain) error {
	head := request.Writer
	data := head.SplitTail(max(head.Len()-replyHeaderSize, 0))
	n, err := s.serve(c, request.Reader, head, data)
	if err != nil {
		return err
	}
	return q.Push(request, uint32(n))
}
