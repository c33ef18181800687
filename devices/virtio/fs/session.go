package fs

import (
	"errors"
	"io"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxTransfer is the most that one READ or WRITE moves, in bytes.
	maxTransfer = 1 << 20
	// maxArguments bounds a request without the data of a WRITE: two names, or a
	// name and the target of a link, and some hundred nodes to forget.
	maxArguments = 16 << 10
	// maxListing bounds what one READDIR returns.
	maxListing = 32 << 10

	protocolMajor = 7
	protocolMinor = 38 // what we speak
	oldestMinor   = 31 // that of the first kernel with virtiofs
)

// source is a request as the guest wrote it: a virtq.Reader.
type source interface {
	io.Reader
	Len() int
	CopyAt(w io.WriterAt, off int64, n int) (int, error)
}

// sink is room for a part of the reply: a virtq.Writer.
type sink interface {
	io.Writer
	Len() int
	CopyAt(r io.ReaderAt, off int64, n int) (int, error)
}

// session is what the device knows of one guest: the server of the protocol. Its
// requests may run at the same time.
type session struct {
	root     *root
	readOnly bool
	owner    bool // chown is allowed
	cacheFor time.Duration
	watcher  Watcher // nil: none
	nodes    *nodes
	handles  *handles
	mounted  atomic.Bool // between INIT and DESTROY
}

// call is one request at work.
type call struct {
	header requestHeader
	args   decoder
	reply  encoder
	in     source // the data of a WRITE
	head   sink   // the header of the reply
	data   sink   // what follows it
	direct int    // bytes that went to data already

	argBuf   [maxArguments]byte
	replyBuf []byte
	dents    []byte
	content  []byte // of a write that a watcher looks at
	access   Access // as a watcher sees it
}

// operation is how an opcode is served. Handlers return the host's error, which
// becomes the guest's.
type operation struct {
	run    func(*session, *call) error
	writes bool // changes something: not on a read-only share
	silent bool // has no reply
	reply  int  // bytes of reply that it makes on success, before what is up to the guest
}

var operations = map[opcode]operation{
	opInit:          {run: (*session).init, reply: 64},
	opDestroy:       {run: (*session).destroy},
	opLookup:        {run: (*session).lookup, reply: entrySize},
	opForget:        {run: (*session).forget, silent: true},
	opBatchForget:   {run: (*session).batchForget, silent: true},
	opInterrupt:     {run: (*session).interrupt, silent: true},
	opGetattr:       {run: (*session).getattr, reply: attrReply},
	opSetattr:       {run: (*session).setattr, reply: attrReply, writes: true},
	opStatfs:        {run: (*session).statfs, reply: 80},
	opReadlink:      {run: (*session).readlink},
	opSymlink:       {run: (*session).symlink, reply: entrySize, writes: true},
	opMknod:         {run: (*session).mknod, reply: entrySize, writes: true},
	opMkdir:         {run: (*session).mkdir, reply: entrySize, writes: true},
	opUnlink:        {run: (*session).unlink, writes: true},
	opRmdir:         {run: (*session).rmdir, writes: true},
	opLink:          {run: (*session).link, reply: entrySize, writes: true},
	opRename:        {run: (*session).rename, writes: true},
	opRename2:       {run: (*session).rename2, writes: true},
	opOpen:          {run: (*session).open, reply: openReply},
	opCreate:        {run: (*session).create, reply: entrySize + openReply, writes: true},
	opRead:          {run: (*session).read},
	opWrite:         {run: (*session).write, reply: 8, writes: true},
	opFlush:         {run: (*session).flush},
	opFsync:         {run: (*session).fsync},
	opRelease:       {run: (*session).release},
	opFallocate:     {run: (*session).fallocate, writes: true},
	opLseek:         {run: (*session).lseek, reply: 8},
	opCopyFileRange: {run: (*session).copyFileRange, reply: 8, writes: true},
	opOpendir:       {run: (*session).opendir, reply: openReply},
	opReaddir:       {run: (*session).readdir},
	opReaddirplus:   {run: (*session).readdirplus},
	opReleasedir:    {run: (*session).releasedir},
	opFsyncdir:      {run: (*session).fsyncdir},
	opSyncfs:        {run: (*session).syncfs},
}

// serve answers one request. The reply's header goes to head, what follows to data;
// without room for a header there is no reply. It returns the length of the reply.
// The error is that of head or data and not the guest's.
func (s *session) serve(c *call, in source, head, data sink) (int, error) {
	c.in, c.head, c.data, c.direct = in, head, data, 0
	c.reply.b = c.replyBuf[:0]
	silent, err := s.run(c)
	c.replyBuf = c.reply.b[:0]
	if silent || !c.answerable() {
		return 0, nil
	}
	if err != nil {
		_, err := head.Write(replyHeader(c.header.unique, errnoOf(err), 0))
		return replyHeaderSize, err
	}
	n := c.direct + len(c.reply.b)
	if _, err := head.Write(replyHeader(c.header.unique, 0, n)); err != nil {
		return 0, err
	}
	if _, err := data.Write(c.reply.b); err != nil {
		return 0, err
	}
	return replyHeaderSize + n, nil
}

// answerable reports whether there is room for a reply.
func (c *call) answerable() bool { return c.head.Len() == replyHeaderSize }

// run takes the request apart and does it, and reports whether it has no reply.
func (s *session) run(c *call) (silent bool, err error) {
	c.header = requestHeader{}
	var b [requestHeaderSize]byte
	if _, err := io.ReadFull(c.in, b[:]); err != nil {
		return false, unix.EINVAL
	}
	h := parseRequestHeader(&b)
	c.header = h
	o, known := operations[h.op]
	switch {
	case !known:
		return false, unix.ENOSYS
	case h.size < requestHeaderSize || uint64(h.size-requestHeaderSize) > uint64(c.in.Len()):
		return o.silent, unix.EINVAL
	case h.op != opInit && !s.mounted.Load():
		return o.silent, unix.ENOTCONN
	case !o.silent && (!c.answerable() || c.data.Len() < o.reply):
		return false, unix.EIO // do nothing that the guest would not learn of
	case o.writes && s.readOnly:
		return false, unix.EROFS
	}
	n := h.size - requestHeaderSize
	if h.op == opWrite {
		n = min(n, writeArguments)
	}
	if n > maxArguments {
		return o.silent, unix.EINVAL
	}
	if _, err := io.ReadFull(c.in, c.argBuf[:n]); err != nil {
		return o.silent, unix.EINVAL
	}
	c.args = decoder{b: c.argBuf[:n]}
	return o.silent, o.run(s, c)
}

// errnoOf is what the guest is told of an error. Running out of the process's
// descriptors looks like running out of the guest's.
func errnoOf(err error) unix.Errno {
	var errno unix.Errno
	if !errors.As(err, &errno) || errno <= 0 || errno > 133 {
		return unix.EIO // 133: EHWPOISON, the last that a guest's program knows
	}
	if errno == unix.EMFILE {
		return unix.ENFILE
	}
	return errno
}

// init is FUSE_INIT: the guest mounts.
func (s *session) init(c *call) error {
	major, minor := c.args.u32(), c.args.u32()
	readahead, flags := c.args.u32(), c.args.u32()
	if err := c.args.end(); err != nil {
		return err
	}
	if major != protocolMajor || minor < oldestMinor {
		return unix.EPROTO
	}
	s.forgetAll() // of an earlier mount that ended without DESTROY
	s.mounted.Store(true)
	r := &c.reply
	r.u32(protocolMajor)
	r.u32(protocolMinor)
	r.u32(min(readahead, maxTransfer))
	r.u32(flags & (initAsyncRead | initAtomicTrunc | initBigWrites | initAutoInvalData | initReaddirplus |
		initReaddirplusAuto | initAsyncDirect | initParallelDirs | initMaxPages))
	r.u16(64) // max_background
	r.u16(48) // congestion_threshold
	r.u32(maxTransfer)
	r.u32(1) // time_gran, in nanoseconds
	r.u16(maxTransfer / 4096)
	r.zero(64 - 30)
	return nil
}

// destroy is FUSE_DESTROY: the guest has unmounted.
func (s *session) destroy(*call) error {
	s.mounted.Store(false)
	s.forgetAll()
	return nil
}

func (s *session) forgetAll() {
	s.handles.reset()
	s.nodes.reset()
}

// interrupt is FUSE_INTERRUPT. Requests end soon enough by themselves.
func (s *session) interrupt(*call) error { return nil }

// span checks a range of a file that the guest gives.
func span(off, n uint64) (int64, int64, error) {
	if off > math.MaxInt64 || n > math.MaxInt64 || off+n > math.MaxInt64 {
		return 0, 0, unix.EINVAL
	}
	return int64(off), int64(n), nil
}
