package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"warder/secmon/introspect"
	"warder/secmon/lan/monitor"
	"warder/supervisor"
	"warder/vmm"
)

// Bounds on clients. They are the user's own programs, which can be wrong.
const (
	maxConnections = 64
	maxHeader      = 64 << 10
	headerTimeout  = 10 * time.Second
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
	http   http.Server
	log    *slog.Logger
	served chan error

	mu      sync.Mutex
	vms     map[string]*Hosted
	monitor *monitor.Monitor // of the LAN, nil without one
}

// Listen opens this process's socket in a directory, [Dir] for one.
func Listen(dir string, log *slog.Logger) (*Server, error) {
	l, err := listen(dir)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	s := &Server{log: log, served: make(chan error, 1), vms: make(map[string]*Hosted)}
	s.http = http.Server{
		Handler:           authorised(s.routes()),
		ConnContext:       withPeer,
		ReadHeaderTimeout: headerTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	go func() { s.served <- s.http.Serve(newListener(l)) }()
	return s, nil
}

// routes says who answers what. A VM is named by the path element {vm}.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/vms", s.list)
	mux.HandleFunc("GET /v1/vms/{vm}", s.of(func(h *Hosted, w http.ResponseWriter, _ *http.Request) { reply(w, h.vm()) }))
	mux.HandleFunc("GET /v1/vms/{vm}/inspect/{what}", s.of(inspect))
	mux.HandleFunc("GET /v1/vms/{vm}/memory", s.of(readMemory))
	mux.HandleFunc("PUT /v1/vms/{vm}/memory", s.of(writeMemory))
	mux.HandleFunc("GET /v1/vms/{vm}/dump", s.of(dump))
	mux.HandleFunc("GET /v1/vms/{vm}/diff", s.of(diff))
	mux.HandleFunc("GET /v1/vms/{vm}/gdb", s.of(s.gdb))
	mux.HandleFunc("GET /v1/vms/{vm}/trace", s.of(s.trace))
	mux.HandleFunc("GET /v1/lan/monitor", s.ofMonitor(s.lanMonitor))
	mux.HandleFunc("GET /v1/lan/flows", s.ofMonitor(lanFlows))
	mux.HandleFunc("GET /v1/lan/capture", s.ofMonitor(lanCapture))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fail(w, &Error{NotFound, fmt.Sprintf("this version of warder has no %s %s", r.Method, r.URL.Path)})
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
			fail(w, &Error{NotFound, fmt.Sprintf("this process has no VM %q", name)})
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

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v) // an error is the client's, who is gone
}

// fail answers with an error; one that is no [Error] is internal.
func fail(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		e = &Error{Internal, err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statuses[e.Code])
	json.NewEncoder(w).Encode(e)
}
