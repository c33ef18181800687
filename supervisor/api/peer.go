package api

import (
	"context"
	"net"
	"net/http"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// listener takes a bounded number of connections and asks the kernel who made
// each.
type listener struct {
	*net.UnixListener
	free   chan struct{} // a value for each connection more
	closed chan struct{}
	once   sync.Once
}

func newListener(l *net.UnixListener) *listener {
	free := make(chan struct{}, maxConnections)
	for range maxConnections {
		free <- struct{}{}
	}
	return &listener{UnixListener: l, free: free, closed: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.free:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.AcceptUnix()
	if err != nil {
		l.free <- struct{}{}
		return nil, err
	}
	return &conn{UnixConn: c, peer: peerOf(c), done: func() { l.free <- struct{}{} }}, nil
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.UnixListener.Close()
}

type conn struct {
	*net.UnixConn
	peer *unix.Ucred // nil if the kernel does not tell
	once sync.Once
	done func()
}

func (c *conn) Close() error {
	defer c.once.Do(c.done)
	return c.UnixConn.Close()
}

func peerOf(c *net.UnixConn) *unix.Ucred {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return nil
	}
	return cred
}

// peerKey is the key of a connection's credentials in its context.
type peerKey struct{}

func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, c.(*conn).peer)
}

// authorised lets in whom the socket is for: root and this process's user.
func authorised(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cred, _ := r.Context().Value(peerKey{}).(*unix.Ucred)
		if cred == nil || cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
			fail(w, &Error{Code: Forbidden, Message: "only the user who runs the VM and root may do that"})
			return
		}
		next.ServeHTTP(w, r)
	})
}
