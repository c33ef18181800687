package vsock

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// A source gives what a reader has in chunks. While it waits for a Unix socket it has none.
type source struct {
	r   io.Reader
	raw syscall.RawConn // the socket; nil for another reader
	get func(fd uintptr) bool

	p   part // of the last call of get
	err error
}

func newSource(r io.Reader) *source {
	s := &source{r: r}
	if c, ok := r.(*net.UnixConn); ok {
		s.raw, _ = c.SyscallConn() // without it the socket is read as any other reader is
	}
	s.get = s.read
	return s
}

// next is what the reader gives next, perhaps nothing, with an error or without.
func (s *source) next() (part, error) {
	s.p = part{}
	if s.raw != nil {
		if err := s.raw.Read(s.get); err != nil {
			return part{}, err
		}
		return s.p, s.err
	}
	s.p.chunk = newChunk()
	s.p.end, s.err = s.r.Read(s.p.chunk.bytes[:])
	return s.p, s.err
}

// read reads once, and reports whether there was something to read, or never will be.
func (s *source) read(fd uintptr) bool {
	c := newChunk()
	var n int
	for {
		if n, s.err = unix.Read(int(fd), c.bytes[:]); s.err != unix.EINTR {
			break
		}
	}
	switch {
	case s.err == unix.EAGAIN:
		c.give()
		return false
	case n == 0 && s.err == nil:
		s.err = io.EOF
	}
	s.p = part{chunk: c, end: max(n, 0)}
	return true
}
