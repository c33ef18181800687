package vsock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// shortDir is a directory whose sockets fit into sun_path, wherever TMPDIR is.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "vsock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// withGuest makes a device with sockets and another that plays its guest.
func withGuest(t *testing.T, dir string) (host, guest *Device) {
	t.Helper()
	host, guest = newDevice(t, Config{Dir: dir}), newDevice(t, Config{})
	ctx, cancel := context.WithCancel(context.Background())
	wait := join(ctx, host, guest)
	t.Cleanup(func() { cancel(); wait() })
	return host, guest
}

func dialUnix(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UnixConn)
}

func TestProgramConnectsToGuest(t *testing.T) {
	dir := shortDir(t)
	_, guest := withGuest(t, dir)
	l, err := guest.Listen(52)
	if err != nil {
		t.Fatal(err)
	}
	// The bytes after the command are the connection's already.
	c := dialUnix(t, filepath.Join(dir, "vsock.sock"))
	io.WriteString(c, "CONNECT 52\nhello")
	in := accept(t, l)
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if want := fmt.Sprintf("OK %d\n", in.remote().Port); err != nil || line != want {
		t.Fatalf("answer %q, %v; want %q", line, err, want)
	}
	c.CloseWrite()
	got, err := io.ReadAll(in)
	if err != nil || string(got) != "hello" {
		t.Errorf("guest read %q, %v", got, err)
	}
	io.WriteString(in, "good bye")
	in.Close()
	got, err = io.ReadAll(r)
	if err != nil || string(got) != "good bye" {
		t.Errorf("program read %q, %v", got, err)
	}
}

func TestProgramIsRefused(t *testing.T) {
	dir := shortDir(t)
	withGuest(t, dir)
	for command, want := range map[string]string{
		"CONNECT 52\n":           "connection refused",
		"CONNECT 4294967296\n":   `expected "CONNECT <port>"`,
		"CONNECT -1\n":           `expected "CONNECT <port>"`,
		"CONNECT\n":              `expected "CONNECT <port>"`,
		"GET / HTTP/1.1\r\n":     `expected "CONNECT <port>"`,
		strings.Repeat("A", 200): `expected "CONNECT <port>"`,
	} {
		c := dialUnix(t, filepath.Join(dir, "vsock.sock"))
		io.WriteString(c, command)
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "ERROR ") || !strings.Contains(line, want) {
			t.Errorf("%q: answer %q, %v; want ERROR with %q", command, line, err, want)
		}
	}
}

func TestGuestConnectsToProgram(t *testing.T) {
	dir := shortDir(t)
	_, guest := withGuest(t, dir)
	if _, err := guest.Dial(t.Context(), 99); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("without a listener: %v", err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "port-99.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := guest.Dial(t.Context(), 99)
	if err != nil {
		t.Fatal(err)
	}
	local, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "question")
	c.(*Conn).CloseWrite()
	if got, err := io.ReadAll(local); err != nil || string(got) != "question" {
		t.Errorf("program read %q, %v", got, err)
	}
	io.WriteString(local, "answer")
	local.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "answer" {
		t.Errorf("guest read %q, %v", got, err)
	}
	c.Close()
}

func TestListenerInProcessComesFirst(t *testing.T) {
	dir := shortDir(t)
	host, guest := withGuest(t, dir)
	outside, err := net.Listen("unix", filepath.Join(dir, "port-99.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	inside, err := host.Listen(99)
	if err != nil {
		t.Fatal(err)
	}
	c, err := guest.Dial(t.Context(), 99)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if in := accept(t, inside); in.remote() != (Addr{CID: testCID, Port: c.(*Conn).ports.host}) {
		t.Errorf("accepted %v", in.remote())
	}
}

func TestSocketFile(t *testing.T) {
	dir := shortDir(t)
	path := filepath.Join(dir, "vsock.sock")
	cfg := Config{CID: testCID, Dir: dir, Log: slog.New(slog.DiscardHandler)}

	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("socket: %v, %v; want mode 0600", info.Mode(), err)
	}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second device in the directory: %v", err)
	}
	waiting := dialUnix(t, path) // Close does not wait for idle programs
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if _, err := waiting.Read(make([]byte, 1)); err == nil {
		t.Error("the program is still connected")
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("socket after Close: %v", err)
	}

	// A killed process leaves its socket behind.
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	d, err = New(cfg)
	if err != nil {
		t.Fatalf("over a stale socket: %v", err)
	}
	d.Close()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("over a file: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "precious" {
		t.Error("the file is gone")
	}
}

func TestConfigErrors(t *testing.T) {
	for want, cfg := range map[string]Config{
		"reserved":         {CID: 2},
		"negative":         {CID: 3, MaxConns: -1},
		"use a shorter":    {CID: 3, Dir: "/tmp/" + strings.Repeat("d", 90)},
		"no such file":     {CID: 3, Dir: filepath.Join(t.TempDir(), "x")},
		"from 3 to 429496": {CID: anyCID},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
}
