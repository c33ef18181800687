package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"warder/supervisor/declaration"
	"warder/supervisor/hosting"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// insiders is a host whose VMs have a socket each, at which their programs ask.
type insiders struct {
	t      *testing.T
	dir    string
	server *Server
	host   *hosting.Host

	mu  sync.Mutex
	vms map[string]hosting.VM // the last of each service
}

func (i *insiders) Claim(d declaration.Service) (verify.Claim, error) {
	return verify.Claim{VCPUs: 1}, nil
}

func (i *insiders) Join(_ declaration.Service, keep func([]netip.Addr) error) error { return keep(nil) }
func (i *insiders) Leave(string)                                                    {}
func (i *insiders) Measure() (map[string]uint64, uint64)                            { return nil, 0 }

func (i *insiders) Boot(_ context.Context, d declaration.Service) (hosting.VM, error) {
	vm := &echo{done: make(chan struct{}), sizes: make(chan string, 8)}
	i.mu.Lock()
	i.vms[d.Name] = vm
	i.mu.Unlock()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: i.socket(d.Name), Net: "unix"})
	if err != nil {
		return nil, err
	}
	context.AfterFunc(i.t.Context(), func() { l.Close() })
	go func() { <-vm.done; l.Close() }()
	i.server.ServeVM(l, d, vm)
	return vm, nil
}

func (i *insiders) socket(name string) string { return filepath.Join(i.dir, name+".vm") }

// in is the host for a program in the VM of a service.
func (i *insiders) in(name string) *Host {
	h := HostAt(i.socket(name))
	i.t.Cleanup(h.Close)
	return h
}

func fromInside(t *testing.T, policies string) *insiders {
	t.Helper()
	dir := t.TempDir()
	i := &insiders{t: t, dir: dir, server: serve(t, filepath.Join(dir, "own"), "vm"), vms: make(map[string]hosting.VM)}
	i.server.OpenToVMs()
	cfg := hosting.Config{Inside: true}
	if policies != "" {
		cfg.PolicyFile, cfg.Policies = "access.cedar", policies
	}
	var list []declaration.Service
	for _, name := range []string{"a", "b", "c"} {
		list = append(list, declaration.Service{Name: name, Command: []string{"x"}})
	}
	i.host = supervised(t, i, cfg, list...)
	i.server.HostServices(i.host)
	for _, name := range []string{"a", "b"} {
		if _, err := i.host.Start(t.Context(), name, "me"); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

// A service may look at itself and end itself, and nothing else.
func TestServiceEndsItself(t *testing.T) {
	i := fromInside(t, "")
	ctx := t.Context()
	a := i.in("a")
	for _, name := range []string{"self", "a"} {
		if st, err := a.Service(ctx, name); err != nil || st.Name != "a" {
			t.Errorf("%+v, %v", st, err)
		}
	}
	denied := func(_ services.Status, err error) {
		t.Helper()
		if e := code(t, err, Forbidden); !strings.Contains(e.Message, "service a may not do this") {
			t.Error(e)
		}
	}
	denied(a.Service(ctx, "b"))
	denied(a.Start(ctx, "c"))
	denied(a.Stop(ctx, "b", 0))
	denied(a.Stop(ctx, "unknown", 0))
	_, err := a.Services(ctx)
	denied(services.Status{}, err)
	_, err = a.Exec(ctx, "self", Exec{})
	denied(services.Status{}, err)
	_, err = a.Add(ctx, "new", []byte("name: new"), "/")
	code(t, err, Forbidden)
	code(t, a.client.get(ctx, "/v1/vms", nil, new([]VM)), Forbidden)

	old := i.vms["a"]
	if _, err := a.Stop(ctx, "self", 0); err != nil {
		t.Fatal(err)
	}
	if st, err := i.host.Wait(ctx, "a"); err != nil || st.State != services.Stopped || st.Why != "stopped by service a" {
		t.Errorf("%+v, %v", st, err)
	}
	if b, err := i.host.Balance(ctx); err != nil || len(b.Grants) != 1 || b.Grants[0].Holder != "b" {
		t.Errorf("still granted: %+v", b)
	}
	// A request of the VM that is gone does not end the next one.
	if _, err := i.host.Start(ctx, "a", "me"); err != nil {
		t.Fatal(err)
	}
	if _, err := i.host.End(ctx, "a", old, "service a"); !errors.Is(err, services.ErrState) {
		t.Errorf("the VM before: %v", err)
	}
	if st, err := i.host.Status(ctx, "a"); err != nil || st.State != services.Running {
		t.Errorf("%+v, %v", st, err)
	}
}

// What policies permit a service, it may do; what they forbid it, it may not, itself
// included.
func TestServicesAskByPolicy(t *testing.T) {
	i := fromInside(t, `
permit (principal == Service::"a", action in [Action::"start", Action::"wait"], resource == Service::"c") when { principal.cpus == 1 };
permit (principal == User::"a", action, resource);
@id("stays") forbid (principal == Service::"b", action == Action::"stop", resource);`)
	ctx := t.Context()
	if st, err := i.in("a").Start(ctx, "c"); err != nil || st.By != "service a" {
		t.Errorf("%+v, %v", st, err)
	}
	_, err := i.in("b").Start(ctx, "c")
	code(t, err, Forbidden)
	_, err = i.in("b").Stop(ctx, "self", 0)
	if e := code(t, err, Forbidden); !strings.Contains(e.Message, "stays") {
		t.Error(e)
	}
	_, err = i.in("a").Stop(ctx, "c", 0)
	code(t, err, Forbidden)
}

// A VM that floods its door finds it full, and nobody else does.
func TestFloodOfOneVM(t *testing.T) {
	i := fromInside(t, everything)
	for range maxPerVM {
		c, err := net.Dial("unix", i.socket("a"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET /v1/service-events?follow=1 HTTP/1.1\r\nHost: warder\r\n\r\n")
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	goroutines := runtime.NumGoroutine()
	var flood sync.WaitGroup
	for range 2 {
		flood.Go(func() {
			junk := bytes.Repeat([]byte("POST /v1/services/self/start HTTP/1.1\r\nX: y\r\n"), 100)
			for range 500 {
				c, err := net.Dial("unix", i.socket("a"))
				if err != nil {
					runtime.Gosched() // the server is behind
					continue
				}
				c.Write(junk)
				c.Close()
			}
		})
	}
	b := i.in("b")
	for range maxPerVM { // at least once while it floods
		if _, err := b.Service(t.Context(), "self"); err != nil {
			t.Errorf("another VM: %v", err)
		}
		if _, err := List(t.Context(), filepath.Join(i.dir, "own")); err != nil {
			t.Errorf("the host's own socket: %v", err)
		}
	}
	if n := runtime.NumGoroutine() - goroutines; n > 4*maxConnections {
		t.Errorf("%d goroutines for one VM", n)
	}
	flood.Wait()
}

// Who has no identity gets no answer.
func TestDoorOfVMsKnowsWhoAsks(t *testing.T) {
	w := &recorder{header: http.Header{}}
	myself(nil).ServeHTTP(w, (&http.Request{}).WithContext(t.Context()))
	if w.status != http.StatusForbidden {
		t.Errorf("status %d", w.status)
	}
}
