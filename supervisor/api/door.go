package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"warder/supervisor/verify"
)

// A door is a further way to the server, for others than who runs the host. What it
// answers for is services alone, as far as the host's policies permit it to who asks.
type door struct {
	http    *http.Server
	serving sync.WaitGroup
}

// open has the server answer those whom a listener brings, each a *conn with its peer.
func (s *Server) open(l net.Listener) {
	d := &door{http: s.httpServer(s.doorway())}
	s.doors = append(s.doors, d)
	d.serving.Go(func() {
		if err := d.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("services cannot be asked for any more", "at", l.Addr().String(), "because", err)
		}
	})
}

// doorway is what policies decide about.
func (s *Server) doorway() http.Handler {
	mux := http.NewServeMux()
	for _, r := range s.table() {
		if r.action != "" {
			mux.HandleFunc(r.pattern, s.permitted(r))
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, &Error{Code: Forbidden, Message: "only the user who runs the host may ask for that, at the host's own socket"})
	})
	return mux
}

// close ends all its connections.
func (d *door) close() error {
	err := d.http.Close()
	d.serving.Wait()
	return err
}

// Share opens a socket at a path that every user of the machine may connect to. It is
// called after HostServices.
func (s *Server) Share(path string) error {
	var l *net.UnixListener
	listen := func() (err error) {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		return err
	}
	err := listen()
	if errors.Is(err, unix.EADDRINUSE) && abandoned(path) && os.Remove(path) == nil {
		err = listen()
	}
	if err == nil {
		err = os.Chmod(path, 0o666)
	}
	if err != nil {
		return fmt.Errorf("socket for services: %w", err)
	}
	s.open(newListener(l, maxPerUser, maxPerUser))
	return nil
}

// abandoned tells whether a path is a socket that nobody listens on.
func abandoned(path string) bool {
	if st, err := os.Lstat(path); err != nil || st.Mode().Type() != os.ModeSocket {
		return false
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, unix.ECONNREFUSED)
}

// permitted has a route answer whom the policies permit it.
func (s *Server) permitted(r route) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		c := connOf(req)
		if c == nil {
			fail(w, &Error{Code: Forbidden, Message: "it is not known who asks"})
			return
		}
		host := s.services.Load()
		if host == nil {
			r.handler(w, req) // which says so
			return
		}
		name := req.PathValue("service")
		if name == "" {
			name = req.URL.Query().Get("service")
		}
		err := host.Permit(req.Context(), c.peer.principal(), r.action, name)
		if err == nil {
			r.handler(w, req)
			return
		}
		if d, ok := errors.AsType[*verify.Denial](err); ok {
			s.log.Info("refused", "who", c.peer.String(), "because", d)
			fail(w, &Error{Code: Forbidden, Message: d.Error()})
			return
		}
		fail(w, codedService(err))
	}
}

// principalOf finds the name and groups of a user, by /etc/passwd and /etc/group.
func principalOf(uid uint32) verify.Principal {
	id := strconv.FormatUint(uint64(uid), 10)
	p := verify.Principal{Name: id, UID: uid}
	u, err := user.LookupId(id)
	if err != nil {
		return p
	}
	p.Name = u.Username
	gids, err := u.GroupIds()
	if err != nil {
		slog.Debug("groups of a user", "user", u.Username, "err", err)
	}
	for _, gid := range gids {
		if g, err := user.LookupGroupId(gid); err == nil {
			p.Groups = append(p.Groups, g.Name)
		}
	}
	return p
}
