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
	free    chan struct{} // a value for each connection more
	perUser int           // connections
	closed  chan struct{}
	once    sync.Once

	mu   sync.Mutex
	made map[uint32]int // connections by user
}

// newListener takes at most perUser connections of one user at a time.
func newListener(l *net.UnixListener, perUser int) *listener {
	free := make(chan struct{}, maxConnections)
	for range maxConnections {
		free <- struct{}{}
	}
	return &listener{UnixListener: l, free: free, perUser: perUser, closed: make(chan struct{}), made: make(map[uint32]int)}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.free:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			l.free <- struct{}{}
			return nil, err
		}
		peer := peerOf(c)
		if peer == nil || !l.admit(peer.Uid) {
			c.Close()
			continue
		}
		return &conn{UnixConn: c, peer: peer, done: func() {
			l.leave(peer.Uid)
			l.free <- struct{}{}
		}}, nil
	}
}

// admit counts a connection of a user, if it may have one more.
func (l *listener) admit(uid uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made[uid] >= l.perUser {
		return false
	}
	l.made[uid]++
	return true
}

func (l *listener) leave(uid uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made[uid]--; l.made[uid] == 0 {
		delete(l.made, uid)
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.UnixListener.Close()
}

type conn struct {
	*net.UnixConn
	peer *unix.Ucred
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
