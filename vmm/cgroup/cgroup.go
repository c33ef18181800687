// Package cgroup shares CPU time out among VMs of one process: it puts threads
// into control groups (cgroup v2, Documentation/admin-guide/cgroup-v2.rst of the
// kernel) below the process's own.
//
// Threads of one process can be in different groups only in "threaded" ones,
// which the cpu controller knows and the memory controller does not: memory is
// always charged to the process. See docs/decisions/0015-limits-of-a-vm.md.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// root is where the hierarchy is mounted.
const root = "/sys/fs/cgroup"

// A Place is where this process is in the hierarchy.
type Place struct {
	Dir         string   `json:"path,omitempty"` // "" without cgroup v2
	Controllers []string `json:"controllers,omitempty"`
	// Delegated says that this user may make groups below it and move threads.
	Delegated bool `json:"delegated"`
}

// Find looks at where this process is. Groups that it has made do not count: what the kernel
// says of a process is where its first thread is, and that may be a vCPU's.
func Find() Place {
	var s unix.Statfs_t
	if err := unix.Statfs(root, &s); err != nil || s.Type != unix.CGROUP2_SUPER_MAGIC {
		return Place{}
	}
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Place{}
	}
	path, ok := parseSelf(string(self), os.Getpid())
	if !ok {
		return Place{}
	}
	return at(filepath.Join(root, path))
}

// parseSelf finds the line of cgroup v2 in /proc/self/cgroup, "0::/path", and leaves out
// of it the groups that process pid has made.
func parseSelf(s string, pid int) (path string, ok bool) {
	for line := range strings.Lines(s) {
		if path, ok = strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); !ok {
			continue
		}
		for strings.HasPrefix(filepath.Base(path), madeBy(pid)) {
			path = filepath.Dir(path)
		}
		return path, true
	}
	return "", false
}

func at(dir string) Place {
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return Place{}
	}
	p := Place{Dir: dir, Controllers: strings.Fields(string(controllers)), Delegated: true}
	// "A cgroup is delegated by granting write access of the directory and its
	// cgroup.procs, cgroup.threads and cgroup.subtree_control files to the user."
	for _, f := range []string{"", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} {
		if unix.Access(filepath.Join(dir, f), unix.W_OK) != nil {
			p.Delegated = false
		}
	}
	return p
}

// An UnavailableError says why threads cannot be put into groups here.
type UnavailableError struct {
	Reason string
	Todo   string // what to do about it
}

func (e *UnavailableError) Error() string {
	return "CPU time cannot be shared out: " + e.Reason + "; " + e.Todo
}

// ownGroup is the advice that fits most obstacles.
const ownGroup = "start warder in a group of its own: systemd-run --user --scope -p Delegate=yes warder ..., or as root with --cgroup " + root + "/warder"

// Check reports what keeps threads of this process from being put into groups,
// as an *UnavailableError, as far as can be told by looking: whether other
// processes are in groups below the place shows when one is made.
func (p Place) Check() error {
	switch {
	case p.Dir == "":
		return &UnavailableError{"no cgroup v2 at " + root,
			"mount it: mount -t cgroup2 none " + root + " (systemd: systemd.unified_cgroup_hierarchy=1 on the kernel's command line)"}
	case !p.Delegated:
		return &UnavailableError{"this user may not make groups in " + p.Dir, ownGroup}
	case !slices.Contains(p.Controllers, "cpu"):
		return &UnavailableError{p.Dir + " has no cpu controller", ownGroup}
	}
	return nil
}

// Join moves this process into the group dir, which it makes if it is not there.
// The group above is asked to give it CPU and memory controllers.
func Join(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("cgroup: %w", err)
	}
	for _, c := range []string{"+cpu", "+memory"} {
		// It may not be ours, and have been asked by somebody else. What is
		// missing then is said where it is needed.
		_ = write(filepath.Dir(dir), "cgroup.subtree_control", c)
	}
	if err := write(dir, "cgroup.procs", strconv.Itoa(os.Getpid())); err != nil {
		return fmt.Errorf("cgroup: move this process into %s: %w", dir, err)
	}
	return nil
}

// write writes a file that is there: a group has no others.
func write(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
