package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"warder/guestinit/proto"
)

// The kernel's own watches: processes that wait for so much of each half second.
// Half a second is its shortest window (WINDOW_MIN_US in kernel/sched/psi.c).
var triggers = map[string]string{
	proto.Memory: "some 20000 500000",
	proto.CPU:    "some 250000 500000",
}

const (
	// calmTick is how often the reserve is looked at while nothing happens, shortTick
	// while the commands are in it.
	calmTick  = time.Second
	shortTick = 10 * time.Millisecond
)

// WatchShortages calls short with what processes wait for as soon as they do, of the
// resources that are named, until ctx ends. Commands is the cgroup of all that may be
// held up while the host is told: if memory is named, they run into the [reserve]
// before the guest has run out of it. Where the kernel cannot watch one of these, the
// others are watched and the error says so.
func WatchShortages(ctx context.Context, resources []string, commands string, short func(resource string)) error {
	var errs []error
	var fds []unix.PollFd
	var of []string // the resource by the descriptor, "" for the reserve
	add := func(fd int, resource string) {
		fds, of = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLPRI}), append(of, resource)
	}
	var r *reserve
	for _, resource := range resources {
		fd, err := watchFor(resource)
		if errs = append(errs, err); err == nil {
			add(fd, resource)
		}
		if resource != proto.Memory || r != nil {
			continue
		}
		if r, err = newReserve(commands, "/proc/meminfo"); err == nil {
			add(int(r.events.Fd()), "")
		}
		errs = append(errs, err)
	}
	if len(fds) > 0 {
		go func() {
			for ctx.Err() == nil {
				if _, err := unix.Poll(fds, int(r.tick().Milliseconds())); err != nil {
					continue // interrupted: what is ready stays so
				}
				for i, fd := range fds {
					switch {
					case fd.Revents&unix.POLLPRI == 0:
					case of[i] != "":
						short(of[i])
					case r.crossed():
						short(proto.Memory)
					}
				}
				r.keep(time.Now())
			}
		}()
	}
	return errors.Join(errs...)
}

// watchFor has the kernel watch for a resource: the file is ready for priority input
// when processes have waited for it (Documentation/accounting/psi.rst). It stays open
// as long as this process runs.
func watchFor(resource string) (fd int, err error) {
	if triggers[resource] == "" {
		return 0, fmt.Errorf("no watch of who waits for %q", resource)
	}
	path := filepath.Join(pressureDir, resource)
	if fd, err = unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil {
		if _, err = unix.Write(fd, append([]byte(triggers[resource]), 0)); err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("watch of who waits for %s: %w", resource, &os.PathError{Op: "open", Path: path, Err: err})
	}
	return fd, nil
}
