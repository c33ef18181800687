package api

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Dir is where the sockets of this user's processes are: /run/warder for root,
// warder in $XDG_RUNTIME_DIR for others, and where that is not set a directory
// of the user's own in that for temporary files.
func Dir() string {
	uid := os.Geteuid()
	if uid == 0 {
		return "/run/warder"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "warder")
	}
	return filepath.Join(os.TempDir(), "warder-"+strconv.Itoa(uid))
}

const suffix = ".sock"

// makeDir makes the directory, which nobody else may enter or have made.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner := st.Sys().(*syscall.Stat_t).Uid
	switch {
	case !st.IsDir():
		return fmt.Errorf("%s is not a directory: remove it", dir)
	case int(owner) != os.Geteuid():
		return fmt.Errorf("%s belongs to user %d: remove it, or set XDG_RUNTIME_DIR", dir, owner)
	case st.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s is open to other users (mode %o): chmod 700 %s", dir, st.Mode().Perm(), dir)
	}
	return nil
}

// locked runs f while no other process does so in the directory: between its
// bind and its listen a socket looks like one that its process has left behind.
func locked(dir string, f func() error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close() // with it goes the lock
	for {
		err := unix.Flock(int(d.Fd()), unix.LOCK_EX)
		if err == nil {
			return f()
		}
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("flock", err)
		}
	}
}

// listen makes this process's socket and removes those of processes that are
// gone.
func listen(dir string) (l *net.UnixListener, err error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	err = locked(dir, func() error {
		if _, err := sockets(dir); err != nil {
			return err
		}
		// A pid is one process's at a time, in one namespace of them.
		path := filepath.Join(dir, strconv.Itoa(os.Getpid())+suffix)
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("%s is used by another process: give this one an XDG_RUNTIME_DIR of its own", path)
		}
		return err
	})
	return l, err
}

// sockets are the paths of sockets that somebody listens on. Those that nobody
// does are removed. The caller has the directory locked.
func sockets(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		c, err := net.Dial("unix", path)
		switch {
		case err == nil:
			c.Close()
			found = append(found, path)
		case errors.Is(err, unix.ECONNREFUSED):
			os.Remove(path) // if another did, all the better
		case errors.Is(err, unix.EAGAIN):
			found = append(found, path) // alive, and busy
		}
	}
	return found, nil
}
