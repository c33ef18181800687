package systemd

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// manager is a service manager's end, whose socket is in the environment.
func manager(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return c
}

func said(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify(Ready); err != nil {
		t.Errorf("without a manager: %v", err)
	}
	c := manager(t)
	if err := Notify(Ready); err != nil {
		t.Fatal(err)
	}
	if got := said(t, c); got != "READY=1" {
		t.Errorf("%q", got)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "absent"))
	if err := Notify(Ready); err == nil {
		t.Error("nobody was told, and there is no error")
	}
}

func TestWatchdog(t *testing.T) {
	c := manager(t)
	ctx, cancel := context.WithCancel(t.Context())
	t.Setenv("WATCHDOG_USEC", "")
	if err := Watchdog(ctx, func() { t.Error("checked for nobody") }); err != nil {
		t.Error(err)
	}
	t.Setenv("WATCHDOG_USEC", "2000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	if interval() != time.Millisecond {
		t.Errorf("interval %v", interval())
	}
	checks := make(chan bool, 3)
	ended := make(chan error, 1)
	go func() {
		ended <- Watchdog(ctx, func() {
			select {
			case checks <- true:
			case <-ctx.Done():
			}
		})
	}()
	for range 5 {
		<-checks
		if got := said(t, c); got != "WATCHDOG=1" {
			t.Errorf("%q", got)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	t.Setenv("WATCHDOG_PID", "1")
	if interval() != 0 {
		t.Error("a watchdog that is meant for another process")
	}
}
