package api

import (
	"net"
	"net/http"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"warder/supervisor/verify"
)

// A peer is who has made a connection.
type peer interface {
	// principal is who that is in policies.
	principal() verify.Principal
	// String is who that is in a service's record.
	String() string
}

// localUser is a user of this machine, as the kernel says.
type localUser struct{ unix.Ucred }

func (u localUser) String() string              { return "uid " + strconv.FormatUint(uint64(u.Uid), 10) }
func (u localUser) principal() verify.Principal { return principalOf(u.Uid) }

// listener asks the kernel who made each connection to a socket, and bounds them.
type listener struct {
	*net.UnixListener
	*admission
	perUser, perProcess int // connections
}

func newListener(l *net.UnixListener, perUser, perProcess int) *listener {
	return &listener{l, newAdmission(maxConnections), perUser, perProcess}
}

// Accept waits for a connection that has a place, or of which there is room to say that
// it has none: others end before anything is read of them.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		cred := peerOf(c)
		if cred == nil {
			c.Close()
			continue
		}
		u := localUser{*cred}
		if admitted := l.admit(c, share{u.String(), l.perUser}, share{"pid " + strconv.Itoa(int(u.Pid)), l.perProcess}); admitted != nil {
			admitted.peer = u
			return admitted, nil
		}
	}
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

// authorised lets in whom the socket is for: root and this process's user.
func authorised(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c := connOf(r); c != nil {
			if u, ok := c.peer.(localUser); ok && (u.Uid == 0 || int(u.Uid) == os.Geteuid()) {
				next.ServeHTTP(w, r)
				return
			}
		}
		fail(w, &Error{Code: Forbidden, Message: "only the user who runs the VM and root may do that"})
	})
}
