package gdbstub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// localhost is where a stub listens that was not told otherwise: whoever can
// connect has the whole target.
const localhost = "127.0.0.1"

// Listen listens where a debugger is to connect: PORT or :PORT on this machine
// alone, HOST:PORT, or unix:PATH for a Unix socket that only this user can
// connect to. Port 0 takes any.
func Listen(where string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(where, "unix:"); ok {
		return listenUnix(path)
	}
	if !strings.Contains(where, ":") {
		where = ":" + where
	}
	host, port, err := net.SplitHostPort(where)
	if err != nil || port == "" {
		return nil, fmt.Errorf("gdbstub: %q: give PORT, HOST:PORT or unix:PATH", where)
	}
	if host == "" {
		host = localhost
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("gdbstub: %w", err)
	}
	return l, nil
}

// listenUnix takes the place of a socket that nobody listens at any more.
func listenUnix(path string) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("gdbstub: %s is in use", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("gdbstub: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("gdbstub: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("gdbstub: %w", err), l.Close())
	}
	return l, nil
}

// leaving is how long a debugger waits for another that may just be going: its
// connection ends before all is put back.
const leaving = time.Second

// ServeAll serves one debugger after the other, each with the target that
// attach gives, until ctx ends, and closes l. A debugger that comes while
// another is served is turned away.
func ServeAll(ctx context.Context, l net.Listener, attach func() (Target, error), log *slog.Logger) {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	busy := make(chan struct{}, 1)
	var all sync.WaitGroup
	defer all.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil {
				log.Error("no debugger can connect any more", "err", err)
			}
			return
		}
		select {
		case busy <- struct{}{}:
		case <-time.After(leaving):
			c.Close()
			log.Warn("a second debugger was turned away", "from", c.RemoteAddr())
			continue
		}
		all.Go(func() {
			defer func() { <-busy }()
			t, err := attach()
			if err != nil {
				c.Close()
				log.Error("debugger", "err", err)
				return
			}
			if err := Serve(ctx, c, t); err != nil {
				log.Warn("debugger", "err", err)
			}
		})
	}
}
