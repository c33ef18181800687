package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const maxWeight = 10000 // CGROUP_WEIGHT_MAX

// CheckWeight reports a weight that the kernel does not know. 0 is none.
func CheckWeight(weight int) error {
	if weight < 0 || weight > maxWeight {
		return fmt.Errorf("CPU weight %d: give 1 to %d, where 100 is usual", weight, maxWeight)
	}
	return nil
}

// A Group is a group of threads of this process.
type Group struct {
	dir    string
	parent string
}

// prefix begins the names of our groups; the process that made one follows.
const prefix = "warder-"

// madeBy begins the names of the groups of a process.
func madeBy(pid int) string { return prefix + strconv.Itoa(pid) + "-" }

// Sweep removes groups that processes have left behind which are gone, and says
// how many.
func Sweep() (int, error) { return sweep(Find().Dir) }

func sweep(parent string) (removed int, err error) {
	if parent == "" {
		return 0, nil
	}
	entries, err := os.ReadDir(parent)
	if err != nil {
		return 0, fmt.Errorf("cgroup: %w", err)
	}
	var errs []error
	for _, e := range entries {
		rest, ours := strings.CutPrefix(e.Name(), prefix)
		digits, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(digits)
		if !ours || !e.IsDir() || err != nil || pid <= 0 || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			continue
		}
		switch err := os.Remove(filepath.Join(parent, e.Name())); {
		case err == nil:
			removed++
		case !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EBUSY): // gone already, or in use in another namespace
			errs = append(errs, fmt.Errorf("cgroup: %w", err))
		}
	}
	return removed, errors.Join(errs...)
}

// New makes a group below this process's own, called after name. When there is
// not enough CPU time for all, its threads get together what the weight is in
// proportion to those of the groups beside it. Where there can be no such group,
// the error is an *UnavailableError.
func New(name string, weight int) (*Group, error) {
	p := Find()
	if err := p.Check(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(p.Dir, madeBy(os.Getpid())+fileName(name)+"-*")
	if err != nil {
		return nil, unavailable(p.Dir, err)
	}
	g := &Group{dir: dir, parent: p.Dir}
	if err := g.setUp(weight); err != nil {
		return nil, errors.Join(unavailable(p.Dir, err), g.Close())
	}
	return g, nil
}

// setUp makes the group one of threads first: the group above it may then give
// it controllers though it has processes itself.
func (g *Group) setUp(weight int) error {
	if err := write(g.dir, "cgroup.type", "threaded"); err != nil {
		return err
	}
	if err := write(g.parent, "cgroup.subtree_control", "+cpu"); err != nil {
		return err
	}
	return write(g.dir, "cpu.weight", strconv.Itoa(weight))
}

// unavailable explains what making a group in dir failed with.
func unavailable(dir string, err error) error {
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EBUSY):
		return &UnavailableError{dir + " has groups of other processes below it", ownGroup}
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.EROFS):
		return &UnavailableError{"this user may not make groups in " + dir, ownGroup}
	}
	return fmt.Errorf("cgroup: %w", err)
}

// fileName is name without what a directory's name must not have.
func fileName(name string) string {
	const most = 64
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, name[:min(len(name), most)])
}

// SetWeight changes the group's weight.
func (g *Group) SetWeight(weight int) error {
	if err := CheckWeight(weight); err != nil {
		return err
	}
	if err := write(g.dir, "cpu.weight", strconv.Itoa(weight)); err != nil {
		return fmt.Errorf("cgroup: weight: %w", err)
	}
	return nil
}

// Dir is the group's directory.
func (g *Group) Dir() string { return g.dir }

// Enter moves the calling thread into the group. The goroutine must be locked to
// it, and Leave before it ends or is unlocked.
func (g *Group) Enter() error { return move(g.dir) }

// Leave moves the calling thread back to where its process is. A thread that
// ends in the group would keep it from being closed for a moment.
func (g *Group) Leave() error { return move(g.parent) }

// move moves the calling thread: "0" stands for it, and spares the kernel a lock
// that holds up all processes.
func move(dir string) error {
	if err := write(dir, "cgroup.threads", "0"); err != nil {
		return fmt.Errorf("cgroup: move a thread: %w", err)
	}
	return nil
}

// leaving is how long a thread that has ended may stay in its group. It goes at
// once, but a moment after whoever waited for its end.
const leaving = 2 * time.Second

// Close removes the group, which all threads have left or are about to.
func (g *Group) Close() error {
	deadline := time.Now().Add(leaving)
	for {
		err := os.Remove(g.dir)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EBUSY) || time.Now().After(deadline):
			return fmt.Errorf("cgroup: %w", err)
		}
		time.Sleep(time.Millisecond)
	}
}
