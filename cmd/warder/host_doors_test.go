package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"warder/supervisor/declaration"
)

// Sockets of a service open and close as it is declared, and are no other's meanwhile.
func TestDoors(t *testing.T) {
	dir := t.TempDir()
	waits := make(chan struct{}, 1) // when one is there that waits until its door is closed
	d := newDoors(func(ctx context.Context, c *net.UnixConn, service string, port uint32) {
		defer c.Close()
		fmt.Fprintln(c, service, port)
		if port == 9 {
			waits <- struct{}{}
			<-ctx.Done()
		}
	}, slog.New(slog.DiscardHandler))
	defer d.close()
	of := func(name string, sockets ...string) declaration.Service {
		s := declaration.Service{Name: name, OnDemand: &declaration.OnDemand{}}
		for _, e := range sockets {
			s.OnDemand.Sockets = append(s.OnDemand.Sockets, filepath.Join(dir, e))
		}
		return s
	}
	open := func(s declaration.Service) {
		t.Helper()
		if _, err := d.open(s); err != nil {
			t.Fatal(err)
		}
		d.settle(s)
	}
	said := func(socket, want string) {
		t.Helper()
		c, err := net.Dial("unix", filepath.Join(dir, socket))
		if err != nil {
			if want != "" {
				t.Error(err)
			}
			return
		}
		defer c.Close()
		if line, err := bufio.NewReader(c).ReadString('\n'); strings.TrimSpace(line) != want {
			t.Errorf("%s: %q, %v, want %q", socket, line, err, want)
		}
	}
	open(of("a", "a.sock:1", "both.sock:2"))
	said("a.sock", "a 1")
	said("both.sock", "a 2")
	for _, c := range []struct {
		s    declaration.Service
		says string
	}{
		{of("b", "b.sock:1", "both.sock:2"), "both.sock leads to a: give another"},
		{of("b", "b.sock:1", "b.sock:2"), "is there twice"},
		{of("b", "b.sock:1", "none/b.sock:2"), "no such file"},
		{of("b", "b.sock"), "give PATH:PORT"},
	} {
		if _, err := d.open(c.s); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v, want %q", err, c.says)
		}
		said("b.sock", "")
	}
	undo, err := d.open(of("a", "a.sock:7", "more.sock:8"))
	if err != nil {
		t.Fatal(err)
	}
	said("a.sock", "a 1") // until it is settled
	undo()
	said("more.sock", "")
	open(of("a", "a.sock:9", "more.sock:8"))
	said("a.sock", "a 9")
	<-waits
	said("more.sock", "a 8")
	said("both.sock", "")
	open(of("b", "both.sock:3"))
	said("both.sock", "b 3")

	// With a door its connections end, with the service its doors.
	c, err := net.Dial("unix", filepath.Join(dir, "a.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	<-waits
	d.settle(declaration.Service{Name: "a"})
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil {
		t.Errorf("%q, %v", line, err)
	}
	if line, err := r.ReadString('\n'); err == nil {
		t.Errorf("it goes on: %q", line)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "both.sock" {
		t.Errorf("there are %v, %v", left, err)
	}
}

// Connections wait for a host that comes up, as long as they are there.
func TestHoldBeforeTheHost(t *testing.T) {
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, _, err := newHolder().hold(gone, "a", ""); err == nil {
		t.Error("held by nobody")
	}
}
