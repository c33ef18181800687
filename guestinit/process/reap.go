package process

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// A reaper takes the exit status of every child, orphans that were handed to
// PID 1 included. All children must be started through it: nothing else may
// wait, because wait4(-1) takes whichever child is there.
type reaper struct {
	// Held over fork and over wait4: no child is reaped before it is known,
	// and none is gone (its id perhaps reused) while it is being signalled.
	mu      sync.Mutex
	waiting map[int]chan<- syscall.WaitStatus
}

func newReaper() *reaper {
	return &reaper{waiting: make(map[int]chan<- syscall.WaitStatus)}
}

// start runs fork and returns the child's id and where its status will come.
func (r *reaper) start(fork func() (int, error)) (int, <-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := fork()
	if err != nil {
		return 0, nil, err
	}
	died := make(chan syscall.WaitStatus, 1)
	r.waiting[pid] = died
	return pid, died, nil
}

// whileAlive runs f if the child has not been reaped, else returns ESRCH.
func (r *reaper) whileAlive(pid int, f func() error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[pid] == nil {
		return syscall.ESRCH
	}
	return f()
}

func (r *reaper) run(ctx context.Context) {
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, syscall.SIGCHLD)
	defer signal.Stop(sigs)
	for {
		r.reap()
		select {
		case <-sigs: // one stands for many
		case <-ctx.Done():
			return
		}
	}
}

// reap takes all children that are dead by now.
func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if died := r.waiting[pid]; died != nil && (ws.Exited() || ws.Signaled()) {
			delete(r.waiting, pid)
			died <- ws
		}
	}
}
