package vsock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// pathLimit is how long the path of a Unix socket can be: sun_path of 108 bytes
	// with its NUL, unix(7).
	pathLimit = 107
	// maxCommand is the longest first line, "CONNECT 4294967295\n" with some slack.
	maxCommand = 32
	// commandTimeout is how long a program may take for its first line, as well as
	// the guest for its answer.
	commandTimeout = 10 * time.Second
	// acceptPause is how long to wait for file descriptors when the process has none.
	acceptPause = 100 * time.Millisecond
)

// sockets is the device's presence in a directory: the door for other processes.
type sockets struct {
	d        *Device
	dir      string
	listener net.Listener
	slots    chan struct{} // one for each program that is connected
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup
	noted    sync.Once
}

func portPath(dir string, port uint32) string {
	return filepath.Join(dir, "port-"+strconv.FormatUint(uint64(port), 10)+".sock")
}

func listenUnix(d *Device, dir string) (*sockets, error) {
	if longest := portPath(dir, anyCID); len(longest) > pathLimit {
		return nil, fmt.Errorf("vsock: directory %s makes socket paths of %d bytes and the kernel allows %d: use a shorter one",
			dir, len(longest), pathLimit)
	}
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("vsock: directory for sockets: %w", err)
	} else if !info.IsDir() {
		return nil, fmt.Errorf("vsock: %s is not a directory", dir)
	}
	path := filepath.Join(dir, "vsock.sock")
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("vsock: %w", err)
	}
	// The mode is set on the socket before bind gives it its name, so that there is
	// no moment at which others can connect.
	private := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }), err)
	}}
	l, err := private.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("vsock: %w", err)
	}
	s := &sockets{d: d, dir: dir, listener: l, slots: make(chan struct{}, d.maxConns)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.work.Go(s.serve)
	return s, nil
}

// removeStale removes a socket that nobody listens on any more.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way and is not a socket: remove it or use another directory", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("%s is in use by another process: give each machine a directory of its own", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// close removes the socket and waits until no program is connected.
func (s *sockets) close() error {
	s.cancel()
	err := s.listener.Close() // unlinks the path
	s.work.Wait()
	return err
}

// serve takes the programs that want to talk to the guest.
func (s *sockets) serve() {
	for s.ctx.Err() == nil {
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return
		}
		local, err := s.listener.Accept()
		if err != nil {
			<-s.slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			s.d.log.Warn("vsock socket cannot accept", "error", err)
			select {
			case <-time.After(acceptPause):
			case <-s.ctx.Done():
			}
			continue
		}
		s.work.Go(func() {
			defer func() { <-s.slots }()
			s.connect(local.(*net.UnixConn))
		})
	}
}

// connect does what a program's first line asks for.
func (s *sockets) connect(local *net.UnixConn) {
	defer local.Close()
	ctx, cancel := context.WithTimeout(s.ctx, commandTimeout)
	defer cancel()
	defer context.AfterFunc(s.ctx, func() { local.Close() })()

	local.SetDeadline(time.Now().Add(commandTimeout))
	port, err := readCommand(local)
	if err != nil {
		fmt.Fprintf(local, "ERROR %v\n", err)
		return
	}
	remote, err := s.d.Dial(ctx, port)
	if err != nil {
		fmt.Fprintf(local, "ERROR %v\n", err)
		return
	}
	defer remote.Close()
	c := remote.(*Conn)
	if _, err := fmt.Fprintf(local, "OK %d\n", c.local().Port); err != nil {
		return
	}
	local.SetDeadline(time.Time{})
	relay(local, c)
}

// readCommand reads "CONNECT <port>\n" and not a byte more: what follows belongs to
// the connection.
func readCommand(r io.Reader) (uint32, error) {
	line := make([]byte, 0, maxCommand)
	for len(line) == 0 || line[len(line)-1] != '\n' {
		if len(line) == maxCommand {
			return 0, errors.New(`expected "CONNECT <port>"`)
		}
		n, err := io.ReadFull(r, line[len(line):len(line)+1])
		if err != nil {
			return 0, fmt.Errorf("reading the command: %w", err)
		}
		line = line[:len(line)+n]
	}
	word, number, _ := strings.Cut(strings.TrimRight(string(line), "\r\n"), " ")
	port, err := strconv.ParseUint(number, 10, 32)
	if word != "CONNECT" || err != nil {
		return 0, errors.New(`expected "CONNECT <port>"`)
	}
	return uint32(port), nil
}

// forward hands a connection that the guest asks for to whoever listens in the
// directory. The device's mutex is held; the answer follows later.
func (s *sockets) forward(c *Conn) {
	s.work.Go(func() {
		defer c.Close()
		var dialer net.Dialer
		ctx, cancel := context.WithTimeout(s.ctx, commandTimeout)
		defer cancel()
		conn, err := dialer.DialContext(ctx, "unix", portPath(s.dir, c.ports.host))
		if err != nil {
			s.noted.Do(func() { // once: the guest decides how often this happens
				s.d.log.Info("guest connects to a port on which nobody listens", "cid", s.d.cid, "port", c.ports.host, "error", err)
			})
			return // Close refuses
		}
		defer conn.Close()
		defer context.AfterFunc(s.ctx, func() { conn.Close() })()
		if c.acceptForwarded() {
			relay(conn.(*net.UnixConn), c)
		}
	})
}

func (c *Conn) acceptForwarded() bool {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if c.state != accepting {
		return false
	}
	c.accept()
	return true
}

// relay copies both ways until both ends are through, passing on the end of one
// direction alone. Any error ends both.
func relay(local *net.UnixConn, remote *Conn) {
	type end interface {
		io.ReadWriteCloser
		CloseWrite() error
	}
	pass := func(to, from end) {
		_, err := io.Copy(to, from)
		if err == nil {
			err = to.CloseWrite()
		}
		if err != nil {
			to.Close()
			from.Close()
		}
	}
	var other sync.WaitGroup
	other.Go(func() { pass(remote, local) })
	pass(local, remote)
	other.Wait()
}
