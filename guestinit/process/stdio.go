package process

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"warder/guestinit/proto"
)

// stdio is a command's three standard streams and what ties them to its
// connections.
type stdio struct {
	child [3]uintptr // the command's ends
	tty   *os.File   // the master end of its terminal, or nil

	conns map[proto.Role]net.Conn
	ours  map[proto.Role]*os.File // our ends of the pipes
}

// newStdio makes pipes or a terminal, owned by the command's user, so that
// /dev/stdout can be opened again. A stream without a connection is /dev/null.
func newStdio(c proto.Command, conns map[proto.Role]net.Conn, owner *syscall.Credential) (_ *stdio, err error) {
	s := &stdio{conns: conns, ours: make(map[proto.Role]*os.File)}
	for i := range s.child {
		s.child[i] = ^uintptr(0)
	}
	defer func() {
		if err != nil {
			s.closeChild()
			s.close()
		}
	}()
	if c.TTY {
		var slave int
		if s.tty, slave, err = openTerminal(); err != nil {
			return nil, err
		}
		s.child = [3]uintptr{uintptr(slave), uintptr(slave), uintptr(slave)}
		if c.Cols != 0 && c.Rows != 0 {
			if err := setSize(s.tty, c.Cols, c.Rows); err != nil {
				return nil, err
			}
		}
		return s, chown(slave, owner)
	}
	for i, role := range []proto.Role{proto.Stdin, proto.Stdout, proto.Stderr} {
		if conns[role] == nil {
			fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			s.child[i] = uintptr(fd)
			continue
		}
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return nil, err
		}
		theirs, ours := p[1], p[0]
		if role == proto.Stdin {
			theirs, ours = p[0], p[1]
		}
		s.child[i] = uintptr(theirs)
		unix.SetNonblock(ours, true) // for deadlines; the command's end blocks
		s.ours[role] = os.NewFile(uintptr(ours), role.String())
		if err := chown(theirs, owner); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func chown(fd int, owner *syscall.Credential) error {
	if owner == nil || owner.Uid == 0 {
		return nil
	}
	return unix.Fchown(fd, int(owner.Uid), -1)
}

// closeChild closes the command's ends, which it has its own copies of.
func (s *stdio) closeChild() {
	for i, fd := range s.child {
		if fd != ^uintptr(0) && (i == 0 || fd != s.child[0]) {
			unix.Close(int(fd))
		}
	}
	for i := range s.child {
		s.child[i] = ^uintptr(0)
	}
}

func (s *stdio) close() {
	for _, f := range s.ours {
		f.Close()
	}
	if s.tty != nil {
		s.tty.Close()
	}
	for _, c := range s.conns {
		c.Close()
	}
}

// pump copies in both directions. The command having ended, finish brings out
// what it had written and closes everything: processes that the command left
// behind keep no stream.
func (s *stdio) pump() (finish func()) {
	var outputs sync.WaitGroup
	switch {
	case s.tty != nil:
		conn := s.conns[proto.TTY]
		if conn == nil {
			conn = nowhere()
			s.conns[proto.TTY] = conn
		}
		outputs.Go(func() { copyOut(conn, s.tty) })
		go func() {
			io.Copy(s.tty, conn)
			// The end of the input, as a person types it. An error means that
			// the terminal is gone.
			s.tty.Write([]byte{4})
		}()
	default:
		for _, role := range []proto.Role{proto.Stdout, proto.Stderr} {
			if f := s.ours[role]; f != nil {
				outputs.Go(func() { copyOut(s.conns[role], f) })
			}
		}
		if f := s.ours[proto.Stdin]; f != nil {
			go func() {
				io.Copy(f, s.conns[proto.Stdin])
				f.Close()
				s.conns[proto.Stdin].Close()
			}()
		}
	}
	return func() {
		for _, f := range s.ours {
			f.SetReadDeadline(time.Unix(1, 0))
		}
		if s.tty != nil {
			// The death of a session's leader hangs its terminal up, so the
			// end comes by itself, but for a leader that gave it away.
			s.tty.SetReadDeadline(time.Now().Add(time.Second))
		}
		outputs.Wait()
		s.close()
	}
}

// copyOut copies a command's output until its end; from its read deadline on,
// only what is in the pipe. When the connection breaks, the command finds its
// pipe broken.
func copyOut(conn net.Conn, f *os.File) {
	_, err := io.Copy(conn, onlyReader{f})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		f.SetReadDeadline(time.Time{})
		if n, err := ioctlInt(f, unix.TIOCINQ); err == nil && n > 0 {
			io.CopyN(conn, f, int64(n))
		}
	}
	f.Close()
	conn.Close()
}

// onlyReader hides File.WriteTo: splice(2) to a socket would lose what it had
// read when the deadline strikes.
type onlyReader struct{ io.Reader }

// nowhere is a connection that takes everything and gives nothing.
func nowhere() net.Conn {
	a, b := net.Pipe()
	go io.Copy(io.Discard, b)
	return a
}
