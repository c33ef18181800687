package api

import (
	"errors"
	"log/slog"
	"path/filepath"
	"testing"

	"warder/internal/testgdb"
	"warder/internal/testkernel"
	"warder/internal/testkvm"
	"warder/vmm"
)

// TestGDB reaches a machine of a few instructions through the socket.
func TestGDB(t *testing.T) {
	testkvm.Open(t)
	path := testkernel.RawFile(t, spin)
	m, err := vmm.New(vmm.Config{Memory: 64 << 20, Kernel: path, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "sockets")
	s := serve(t, dir, "none")
	if err := s.Add(&Hosted{Name: "a", Machine: m}); err != nil {
		t.Fatal(err)
	}
	find := func(name string) *Remote {
		r, err := Find(t.Context(), dir, name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		return r
	}
	var e *Error
	if _, err := find("none").GDB(t.Context()); !errors.As(err, &e) || e.Code != Unavailable {
		t.Errorf("a VM that is no machine: %v", err)
	}
	a := find("a")
	if err := a.Get(t.Context(), "/gdb", nil, new(VM)); !errors.As(err, &e) || e.Code != BadRequest {
		t.Errorf("without an upgrade: %v", err)
	}
	for range 2 {
		c, err := a.GDB(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		g := testgdb.New(t, c)
		g.Ask("?", "T02thread:1;")
		g.Ask("vCont;s:1", "T05thread:1;")
		g.Ask("D", "OK")
	}
	// The VM's end is the debugger's.
	c, err := a.GDB(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	g := testgdb.New(t, c)
	g.Ask("?", "T02thread:1;")
	s.Remove("a")
	if err := g.Closed(); err == nil {
		t.Error("the debugger was not let go")
	}
}
