package api

import (
	"errors"
	"net"
	"net/http"
	"strings"

	"warder/supervisor/declaration"
	"warder/supervisor/hosting"
	"warder/supervisor/verify"
)

// OpenToVMs has the server answer the VMs of services as far as the host's policies
// permit. It is called before [Server.ServeVM], once.
func (s *Server) OpenToVMs() {
	s.vmDoor = &door{http: s.httpServer(myself(s.doorway()))}
	s.doors = append(s.doors, s.vmDoor)
}

// ServeVM answers what comes from the VM of a service, which l brings. It ends when l
// does, with the VM.
func (s *Server) ServeVM(l net.Listener, d declaration.Service, vm hosting.VM) {
	from := &vmListener{l, newAdmission(maxPerVM), serviceVM{&d, vm}}
	s.vmDoor.serving.Go(func() {
		if err := s.vmDoor.http.Serve(from); !errors.Is(err, http.ErrServerClosed) {
			s.log.Debug("requests of a service's VM end", "service", d.Name, "because", err)
		}
	})
}

// serviceVM is the VM of a service, by which it is known: nobody else has its vsock.
type serviceVM struct {
	service *declaration.Service
	vm      hosting.VM
}

func (v serviceVM) String() string              { return v.principal().String() }
func (v serviceVM) principal() verify.Principal { return verify.Principal{Service: v.service} }

// vmListener brings the connections of one VM, and hangs up on those that are too many.
type vmListener struct {
	net.Listener
	*admission
	from serviceVM
}

func (l *vmListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if admitted := l.admit(c); admitted != nil {
			admitted.peer = l.from
			return admitted, nil
		}
	}
}

// Close is no error for a VM that has ended before.
func (l *vmListener) Close() error {
	if err := l.Listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// myself puts a service's own name where it asks for itself.
func myself(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := connOf(r)
		from, ok := serviceVM{}, false
		if c != nil {
			from, ok = c.peer.(serviceVM)
		}
		if !ok {
			fail(w, &Error{Code: Forbidden, Message: "it is not known who asks"})
			return
		}
		const prefix = "/v1/services/" + declaration.Self
		if rest, ok := strings.CutPrefix(r.URL.Path, prefix); ok && (rest == "" || rest[0] == '/') {
			r.URL.Path, r.URL.RawPath = "/v1/services/"+from.service.Name+rest, ""
		}
		if q := r.URL.Query(); q.Get("service") == declaration.Self {
			q.Set("service", from.service.Name)
			r.URL.RawQuery = q.Encode()
		}
		next.ServeHTTP(w, r)
	})
}
