package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"warder/secmon/introspect"
	"warder/secmon/lan/monitor"
	"warder/supervisor"
	"warder/supervisor/hosting"
	"warder/supervisor/mirror"
	"warder/supervisor/network"
	"warder/vmm"
)

// Bounds on clients. They are the user's own programs, which can be wrong.
const (
	maxConnections = 64 // at one socket
	// Of these one process has at most maxPerProcess, and one user at the host's own socket
	// maxPerOwner, so that its user leaves some to root, or at one that is shared maxPerUser.
	maxPerProcess = 32
	maxPerOwner   = 48
	maxPerUser    = 16
	maxPerVM      = 16 // of the VM of one service
	maxHeader     = 64 << 10
	headerTimeout = 10 * time.Second
	bodyTimeout   = 30 * time.Second // for a request's body
	idleTimeout   = time.Minute      // between requests of a connection
	// goodbye is how long requests may go on when the server closes.
	goodbye = time.Second
)

// Hosted is a VM to be reached.
type Hosted struct {
	Name    string
	Machine *vmm.Machine
	Kernel  string // path of the kernel file that it runs, "" if it is not known
	// Service is the VM under warder's PID 1, nil for a machine without it.
	Service *supervisor.ServiceVM

	started time.Time
	ctx     context.Context // ends when the VM is removed
	cancel  context.CancelFunc
	asked   sync.WaitGroup // requests that use it

	target  introspect.Machine
	looking sync.Mutex       // held while guest is looked for
	guest   *introspect.Live // nil until somebody has asked
}

// Service is a service VM as one to be reached.
func Service(vm *supervisor.ServiceVM) *Hosted {
	return &Hosted{Name: vm.Name(), Machine: vm.Machine(), Kernel: vm.Kernel(), Service: vm}
}

// Server answers for the VMs of this process.
type Server struct {
	http   *http.Server
	log    *slog.Logger
	served chan error

	services   atomic.Pointer[hosting.Host]  // nil for none
	supervisor atomic.Pointer[mirror.Keeper] // nil for none
	doors      []*door
	vmDoor     *door // one of them, of services' VMs

	mu      sync.Mutex
	vms     map[string]*Hosted
	lan     *network.Network // nil for none
	monitor *monitor.Monitor // of the LAN, nil without one
}

// Listen opens this process's socket in a directory, [Dir] for one.
func Listen(dir string, log *slog.Logger) (*Server, error) {
	l, err := listen(dir)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	s := &Server{log: log, served: make(chan error, 1), vms: make(map[string]*Hosted)}
	s.http = s.httpServer(authorised(s.routes()))
	go func() { s.served <- s.http.Serve(newListener(l, maxPerOwner, maxPerProcess)) }()
	return s, nil
}

// httpServer answers on a socket whose clients are programs of this machine.
func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           admitted(bodies(h)),
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// route is a method and a path with who answers them. A VM is named by the path
// element {vm}, a service by {service}.
type route struct {
	pattern string
	handler http.HandlerFunc
	// action is what policies call it; "" for what is not asked at a socket that
	// is shared with other users.
	action string
}

// table is all that can be asked; openapi.json describes it.
func (s *Server) table() []route {
	return []route{
		{"GET /v1/vms", s.list, ""},
		{"GET /v1/vms/{vm}", s.of(func(h *Hosted, w http.ResponseWriter, _ *http.Request) { reply(w, h.vm()) }), ""},
		{"GET /v1/vms/{vm}/inspect/{what}", s.of(inspect), ""},
		{"GET /v1/vms/{vm}/memory", s.of(readMemory), ""},
		{"PUT /v1/vms/{vm}/memory", s.of(writeMemory), ""},
		{"GET /v1/vms/{vm}/dump", s.of(dump), ""},
		{"GET /v1/vms/{vm}/diff", s.of(diff), ""},
		{"GET /v1/vms/{vm}/gdb", s.of(s.gdb), ""},
		{"GET /v1/vms/{vm}/trace", s.of(s.trace), ""},
		{"GET /v1/lan", s.ofLAN(showLAN), ""},
		{"PUT /v1/lan/allow", s.ofLAN(allowOnLAN), ""},
		{"PUT /v1/lan/egress", s.ofLAN(setEgress), ""},
		{"PUT /v1/lan/ports/{port}", s.ofLAN(s.changePort), ""},
		{"PUT /v1/lan/flows/{flow}", s.ofLAN(s.divertFlow), ""},
		{"DELETE /v1/lan/flows/{flow}", s.ofMonitor(s.cutFlow), ""},
		{"GET /v1/lan/monitor", s.ofMonitor(s.lanMonitor), ""},
		{"GET /v1/lan/flows", s.ofMonitor(lanFlows), ""},
		{"GET /v1/lan/capture", s.ofMonitor(lanCapture), ""},
		{"GET /v1/host", s.ofServices(func(_ *hosting.Host, w http.ResponseWriter, _ *http.Request) error {
			reply(w, process{os.Getpid()})
			return nil
		}), "list"},
		{"GET /v1/supervisor", s.ofSupervisor(showSupervisor), ""},
		{"POST /v1/supervisor/mirror", s.ofSupervisor(mirrorSupervisor), ""},
		{"GET /v1/resources", s.ofServices(showResources), "resources"},
		{"GET /v1/service-events", s.ofServices(serviceEvents), "events"},
		{"GET /v1/service-stats", s.ofServices(serviceStats), "stats"},
		{"GET /v1/services", s.ofServices(listServices), "list"},
		{"GET /v1/services/{service}", s.ofServices(showService), "show"},
		{"PUT /v1/services/{service}", s.ofServices(addService), ""},
		{"DELETE /v1/services/{service}", s.ofServices(removeService), ""},
		{"POST /v1/services/{service}/start", s.ofServices(startService), "start"},
		{"POST /v1/services/{service}/stop", s.ofServices(stopService), "stop"},
		{"GET /v1/services/{service}/wait", s.ofServices(waitService), "wait"},
		{"GET /v1/services/{service}/logs", s.ofServices(serviceLogs), "logs"},
		{"GET /v1/services/{service}/console", s.ofServices(serviceConsole), "logs"},
		{"POST /v1/services/{service}/exec", s.ofServices(execService), "exec"},
		{"POST /v1/services/{service}/attach", s.ofServices(attachService), "attach"},
	}
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for _, r := range s.table() {
		mux.HandleFunc(r.pattern, r.handler)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, &Error{Code: NotFound, Message: fmt.Sprintf("this version of warder has no %s %s", r.Method, r.URL.Path)})
	})
	return mux
}

// Add makes a VM known. Its machine must not be closed before [Server.Remove].
func (s *Server) Add(h *Hosted) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vms[h.Name] != nil {
		return fmt.Errorf("control socket: there is a VM %s already", h.Name)
	}
	if h.target == nil { // else it is a test's
		h.target = introspect.Of(h.Machine)
	}
	h.started = time.Now()
	h.ctx, h.cancel = context.WithCancel(context.Background())
	s.vms[h.Name] = h
	return nil
}

// Remove makes a VM unknown, and waits for the requests that use it to give up.
func (s *Server) Remove(name string) {
	s.mu.Lock()
	h := s.vms[name]
	delete(s.vms, name)
	s.mu.Unlock()
	if h != nil {
		h.cancel()
		h.asked.Wait()
	}
}

// of makes a handler of requests about the VM {vm}. The request's context ends
// with the VM.
func (s *Server) of(f func(h *Hosted, w http.ResponseWriter, r *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("vm")
		s.mu.Lock()
		h := s.vms[name]
		if h != nil {
			h.asked.Add(1)
		}
		s.mu.Unlock()
		if h == nil {
			fail(w, &Error{Code: NotFound, Message: fmt.Sprintf("this process has no VM %q", name)})
			return
		}
		defer h.asked.Done()
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(h.ctx, cancel)()
		f(h, w, r.WithContext(ctx))
	}
}

// Close gives up all requests and removes the socket.
func (s *Server) Close() error {
	s.mu.Lock()
	names := slices.Collect(maps.Keys(s.vms))
	s.mu.Unlock()
	for _, name := range names {
		s.Remove(name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), goodbye)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	if e := <-s.served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	for _, d := range s.doors {
		err = errors.Join(err, d.close())
	}
	return err
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	vms := make([]VM, 0, len(s.vms))
	for _, h := range s.vms {
		vms = append(vms, h.vm())
	}
	s.mu.Unlock()
	slices.SortFunc(vms, func(a, b VM) int { return strings.Compare(a.Name, b.Name) })
	reply(w, vms)
}

func (h *Hosted) vm() VM {
	vm := VM{Name: h.Name, PID: os.Getpid(), CPUs: h.target.CPUs(), Kernel: h.Kernel, Started: h.started}
	for _, r := range h.target.Memory().Regions() {
		vm.Memory += uint64(len(r.Bytes))
	}
	return vm
}

// bodies gives clients a time for what they send, and no longer than that.
func bodies(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength == 0 {
			next.ServeHTTP(w, r)
			return
		}
		c := http.NewResponseController(w)
		c.SetReadDeadline(time.Now().Add(bodyTimeout)) // none where it cannot be set
		r.Body = &body{r.Body, c}
		next.ServeHTTP(w, r)
	})
}

// body is a request's, after which its deadline is lifted.
type body struct {
	io.ReadCloser
	c *http.ResponseController
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		b.c.SetReadDeadline(time.Time{})
	}
	return n, err
}

func reply(w http.ResponseWriter, v any) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // or there is nobody who waits
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // an error is the client's, who is gone
}

// fail answers with an error; one that is no [Error] is internal.
func fail(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Code: Internal, Message: err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statuses[e.Code])
	json.NewEncoder(w).Encode(e)
}
