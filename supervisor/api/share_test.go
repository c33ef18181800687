package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/supervisor/declaration"
	"warder/supervisor/hosting"
	"warder/supervisor/services"
)

// shared serves services at a socket for all users.
func shared(t *testing.T, policies string) *Host {
	t.Helper()
	dir := t.TempDir()
	s := serve(t, filepath.Join(dir, "own"), "vm")
	s.HostServices(supervised(t, echoes{}, hosting.Config{PolicyFile: "access.cedar", Policies: policies},
		declaration.Service{Name: "a", Command: []string{"x"}}, declaration.Service{Name: "b", Command: []string{"x"}}))
	path := filepath.Join(dir, "socket")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}) // of a host that was killed
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if err := s.Share(path); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o666 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	other := serve(t, filepath.Join(dir, "other"))
	if err := other.Share(path); err == nil {
		t.Error("one socket for two hosts")
	}
	h := HostAt(path)
	t.Cleanup(h.Close)
	return h
}

func TestSharedSocket(t *testing.T) {
	h := shared(t, fmt.Sprintf(`
permit (principal, action in [Action::"start", Action::"stop", Action::"events"], resource == Service::"a") when { principal.uid == %d };
permit (principal, action == Action::"list", resource == Host::"local");
@id("never-b") forbid (principal, action, resource == Service::"b");`, os.Geteuid()))
	ctx := t.Context()
	if all, err := h.Services(ctx); err != nil || len(all) != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	if st, err := h.Start(ctx, "a"); err != nil || st.State != services.Running {
		t.Errorf("%+v, %v", st, err)
	}
	for _, err := range h.Events(ctx, "a", false) {
		if err != nil {
			t.Error(err)
		}
	}
	denied := func(err error, says string) {
		t.Helper()
		if e := code(t, err, Forbidden); !strings.Contains(e.Message, says) {
			t.Errorf("%v, want one that says %q", err, says)
		}
	}
	_, err := h.Start(ctx, "b")
	denied(err, "forbidden by never-b, line 4")
	_, err = h.Service(ctx, "a")
	denied(err, "no policy permits it")
	_, err = h.Exec(ctx, "a", Exec{})
	denied(err, "exec (no policy permits it)")
	_, err = h.Start(ctx, "unknown") // whether there is one is not told
	denied(err, "no policy permits it")
	for _, err := range h.Events(ctx, "", false) { // of all
		denied(err, "no policy permits it")
	}
	// What is for who runs the host alone.
	_, err = h.Add(ctx, "new", []byte("name: new"), "/")
	denied(err, "who runs the host")
	_, err = h.Remove(ctx, "a")
	denied(err, "who runs the host")
	denied(h.client.get(ctx, "/v1/vms", nil, new([]VM)), "who runs the host")
}

// A user who holds all the connections that it may have is told so until it has let go
// of one, however many it makes, and keeps nobody from the host's own socket.
func TestManyConnections(t *testing.T) {
	h := shared(t, `permit (principal, action, resource);`)
	var held []net.Conn
	for range maxPerUser {
		c, err := net.Dial("unix", h.client.path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET /v1/service-events?follow=1 HTTP/1.1\r\nHost: warder\r\n\r\n") // which has no end
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	threads := runtime.NumGoroutine()
	var slow []net.Conn // who begin to ask, and go no further
	defer func() {
		for _, c := range slow {
			c.Close()
		}
	}()
	for range 10_000 {
		c, err := net.Dial("unix", h.client.path)
		for errors.Is(err, unix.EAGAIN) { // the server is behind
			time.Sleep(time.Millisecond)
			c, err = net.Dial("unix", h.client.path)
		}
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "GET /v1/services HTTP/1.1\r\nHost:") // or it is hung up on already
		if len(slow) < 1000 {
			slow = append(slow, c)
		} else {
			c.Close()
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if n := runtime.NumGoroutine() - threads; n > 4*maxConnections {
		t.Errorf("%d goroutines for connections that are refused", n)
	}
	if n := int64(after.HeapInuse) - int64(before.HeapInuse); n > 16<<20 {
		t.Errorf("%d bytes for connections that are refused", n)
	}
	own, err := List(t.Context(), filepath.Join(filepath.Dir(h.client.path), "own"))
	if err != nil || len(own) == 0 {
		t.Errorf("the host's own socket: %v, %v", own, err)
	}
	for _, c := range slow {
		c.Close()
	}
	slow = nil
	for { // those who were being told so have to be gone
		_, err := h.Services(t.Context())
		if e, ok := errors.AsType[*Error](err); ok && e.Code == Busy {
			break
		}
		if err == nil || t.Context().Err() != nil {
			t.Fatalf("one connection more: %v", err)
		}
	}
	held[0].Close()
	for {
		_, err := h.Services(t.Context())
		if err == nil {
			break
		}
		if t.Context().Err() != nil {
			t.Fatal(err)
		}
	}
}

// However many connections its user and one process hold, the host's own socket has
// some left for root and for others.
func TestOneFollowerLeavesOthersTheirs(t *testing.T) {
	a := newAdmission(maxConnections)
	owner := func(pid string) []share {
		return []share{{"uid 1000", maxPerOwner}, {"pid " + pid, maxPerProcess}}
	}
	root := []share{{"uid 0", maxPerOwner}, {"pid 1", maxPerProcess}}
	took := 0
	for pid := range 100 {
		for range maxConnections {
			if a.enter(owner(strconv.Itoa(pid))...) {
				took++
			}
		}
		if pid == 0 && took != maxPerProcess {
			t.Errorf("one process has %d", took)
		}
	}
	if took != maxPerOwner {
		t.Errorf("one user has %d", took)
	}
	if !a.enter(root...) {
		t.Error("root is refused")
	}
	a.leave(root...)
	for range took {
		a.leave(owner("0")...)
	}
	if a.open != 0 {
		t.Errorf("%d are open", a.open)
	}
}

// Who asks is who the kernel says.
func TestSharedSocketIsByUser(t *testing.T) {
	s := &Server{log: slog.New(slog.DiscardHandler)}
	s.HostServices(supervised(t, echoes{}, hosting.Config{PolicyFile: "f", Policies: `permit (principal == User::"4000000001", action, resource);`}))
	reached := false
	h := s.permitted(route{"GET /x", func(http.ResponseWriter, *http.Request) { reached = true }, "list"})
	for uid, ok := range map[uint32]bool{4000000001: true, 4000000002: false, 0: false} {
		reached = false
		ctx := context.WithValue(t.Context(), connKey{}, &conn{peer: localUser{unix.Ucred{Uid: uid}}})
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://warder/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		w := &recorder{header: http.Header{}}
		if h(w, req); reached != ok || !ok && w.status != http.StatusForbidden {
			t.Errorf("user %d: let in %v, status %d", uid, reached, w.status)
		}
	}
	reached = false
	if h(&recorder{header: http.Header{}}, (&http.Request{}).WithContext(t.Context())); reached {
		t.Error("somebody without credentials was let in")
	}
}
