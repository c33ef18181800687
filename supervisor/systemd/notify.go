// Package systemd tells the service manager that started this process how it
// fares, by the protocol of sd_notify(3). Without such a manager it does nothing.
package systemd

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// Notify sends a state, as in "READY=1". Several are separated by line feeds.
func Notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	// A leading @ is an abstract socket, for net as for systemd.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("service manager: %w", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("service manager: %w", err)
	}
	return nil
}

// The states that a host tells.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	alive    = "WATCHDOG=1"
)

// interval is how often the manager wants to hear that this process is alive:
// twice in the time after which it ends one that is silent. 0: it does not.
func interval() time.Duration {
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 {
		return 0
	}
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0 // it is meant for another
	}
	return time.Duration(usec) * time.Microsecond / 2
}

// Watchdog tells the manager, as often as it wants, that this process is alive,
// until ctx ends. Before each word it calls check, which blocks where the process
// hangs: the manager then ends it.
func Watchdog(ctx context.Context, check func()) error {
	every := interval()
	if every == 0 {
		return nil
	}
	for {
		check()
		if err := Notify(alive); err != nil {
			return err
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return nil
		}
	}
}
