package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/devices/guestmem"
	"warder/secmon/introspect"
)

// fake is a machine of two CPUs that nothing runs on.
type fake struct{ mem *guestmem.Memory }

func (f fake) CPUs() int                { return 2 }
func (f fake) Memory() *guestmem.Memory { return f.mem }

func (f fake) OnCPU(int, func(introspect.CPU) error) error { return errors.New("it does not run") }

func hosted(t *testing.T, name string) *Hosted {
	t.Helper()
	mem, err := guestmem.New(guestmem.Region{Base: 0, Bytes: make([]byte, 64<<10)})
	if err != nil {
		t.Fatal(err)
	}
	return &Hosted{Name: name, target: fake{mem}, Kernel: "/boot/vmlinux"}
}

func serve(t *testing.T, dir string, names ...string) *Server {
	t.Helper()
	s, err := Listen(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	for _, n := range names {
		if err := s.Add(hosted(t, n)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestVMsAreFound(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sockets")
	if vms, err := List(t.Context(), dir); len(vms) != 0 || err != nil {
		t.Errorf("without a directory: %v, %v", vms, err)
	}
	s := serve(t, dir, "b", "a/c?")
	if err := s.Add(hosted(t, "b")); err == nil {
		t.Error("two VMs of one name in a process")
	}
	vms, err := List(t.Context(), dir)
	if err != nil || len(vms) != 2 || vms[0].Name != "a/c?" || vms[1].Name != "b" {
		t.Fatalf("%+v, %v", vms, err)
	}
	if vm := vms[1]; vm.PID != os.Getpid() || vm.CPUs != 2 || vm.Memory != 64<<10 || vm.Kernel != "/boot/vmlinux" || time.Since(vm.Started) > time.Minute {
		t.Errorf("%+v", vm)
	}
	for _, name := range []string{"a/c?", fmt.Sprintf("b@%d", os.Getpid())} {
		r, err := Find(t.Context(), dir, name)
		if err != nil {
			t.Fatal(err)
		}
		var vm VM
		if err := r.Get(t.Context(), "", nil, &vm); err != nil || !strings.HasPrefix(name, vm.Name) {
			t.Errorf("%s: %+v, %v", name, vm, err)
		}
		r.Close()
	}
	if _, err := Find(t.Context(), dir, "c"); err == nil || !strings.Contains(err.Error(), "warder ls") {
		t.Errorf("a VM that is not there: %v", err)
	}
	r, err := Find(t.Context(), dir, "b")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s.Remove("b")
	var e *Error
	if err := r.Get(t.Context(), "", nil, new(VM)); !errors.As(err, &e) || e.Code != NotFound {
		t.Errorf("a VM that has gone: %v", err)
	}
	if err := r.client.get(t.Context(), "/v9", nil, new(VM)); !errors.As(err, &e) || e.Code != NotFound || !strings.Contains(e.Message, "/v9") {
		t.Errorf("a path that is not there: %v", err)
	}
}

// A socket that its process has left behind is removed, one that is alive not.
func TestStaleSockets(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "1"+suffix), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	own := filepath.Join(dir, fmt.Sprint(os.Getpid(), suffix))
	if err := os.Link(filepath.Join(dir, "1"+suffix), own); err != nil {
		t.Fatal(err)
	}
	serve(t, dir, "a")
	if _, err := os.Lstat(filepath.Join(dir, "1"+suffix)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the stale socket: %v", err)
	}
	if vms, err := List(t.Context(), dir); err != nil || len(vms) != 1 {
		t.Errorf("%v, %v", vms, err)
	}
}

func TestDirectoryMustBeOurs(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(dir, slog.Default()); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a directory that others may enter: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file, slog.Default()); err == nil {
		t.Error("a file in place of the directory")
	}
}

func TestOthersAreRefused(t *testing.T) {
	called := false
	h := authorised(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	for uid, ok := range map[int]bool{os.Geteuid(): true, 0: true, os.Geteuid() + 1: false} {
		called = false
		ctx := context.WithValue(t.Context(), connKey{}, &conn{peer: localUser{unix.Ucred{Uid: uint32(uid)}}})
		w := &recorder{header: http.Header{}}
		h.ServeHTTP(w, (&http.Request{}).WithContext(ctx))
		if called != ok || !ok && w.status != http.StatusForbidden {
			t.Errorf("user %d: let in %v, status %d", uid, called, w.status)
		}
	}
	called = false
	h.ServeHTTP(&recorder{header: http.Header{}}, &http.Request{})
	if called {
		t.Error("somebody without credentials was let in")
	}
}

type recorder struct {
	header http.Header
	status int
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(p []byte) (int, error) { return len(p), nil }

// Whatever is asked about a VM is over before Remove returns.
func TestRemoveWaits(t *testing.T) {
	s := &Server{vms: make(map[string]*Hosted), log: slog.New(slog.DiscardHandler)}
	if err := s.Add(hosted(t, "a")); err != nil {
		t.Fatal(err)
	}
	in, over := make(chan struct{}), false
	handler := s.of(func(_ *Hosted, _ http.ResponseWriter, r *http.Request) {
		close(in)
		<-r.Context().Done()
		over = true
	})
	r := (&http.Request{}).WithContext(t.Context())
	r.SetPathValue("vm", "a")
	done := make(chan struct{})
	go func() {
		defer close(done)
		handler(&recorder{header: http.Header{}}, r)
	}()
	<-in
	s.Remove("a")
	if !over {
		t.Error("the VM was removed under a request")
	}
	<-done
}

// Who asks about a VM that ends is told so, and not of what became of the question.
func TestEndedMeanwhile(t *testing.T) {
	h := hosted(t, "a")
	ctx, cancel := context.WithCancel(t.Context())
	h.ctx = ctx
	cancel()
	r := (&http.Request{}).WithContext(ctx)
	r.SetPathValue("what", "ps")
	w := httptest.NewRecorder()
	inspect(h, w, r)
	if w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "VM a has ended meanwhile") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}

func TestStreams(t *testing.T) {
	for name, c := range map[string]struct {
		items int
		err   error
		code  Code
	}{
		"whole":                 {3, nil, ""},
		"empty":                 {0, nil, ""},
		"an error at once":      {0, &Error{Code: Unavailable, Message: "not this one"}, Unavailable},
		"an error in the midst": {2, errors.New("broken"), Internal},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "socket")
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			mux := http.NewServeMux()
			mux.HandleFunc("GET /v1/vms/a/numbers", func(w http.ResponseWriter, _ *http.Request) {
				stream(w, func(put func(any) error) error {
					for i := range c.items {
						if err := put(i); err != nil {
							return err
						}
					}
					return c.err
				})
			})
			server := http.Server{Handler: mux}
			defer server.Close()
			go server.Serve(l)
			r := &Remote{VM{Name: "a"}, newClient(path)}
			defer r.Close()
			var got []int
			var last error
			for raw, err := range r.Stream(t.Context(), "/numbers", nil) {
				if err != nil {
					last = err
					break
				}
				var n int
				if err := json.Unmarshal(raw, &n); err != nil {
					t.Fatal(err)
				}
				got = append(got, n)
			}
			if len(got) != c.items {
				t.Errorf("%d items: %v", len(got), got)
			}
			var e *Error
			if errors.As(last, &e); (c.code == "") != (last == nil) || c.code != "" && (e == nil || e.Code != c.code || e.Message != c.err.Error()) {
				t.Errorf("error %v", last)
			}
		})
	}
}
