package hostinfo

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Cgroup is this process's place in the cgroup v2 tree.
type Cgroup struct {
	Path string `json:"path,omitempty"` // its directory; "" without cgroup v2
	// Controllers are those that the place has; Delegated says whether this user
	// may make groups below it.
	Controllers []string `json:"controllers,omitempty"`
	Delegated   bool     `json:"delegated"`
}

const cgroupRoot = "/sys/fs/cgroup"

func cgroup() Cgroup {
	var s unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &s); err != nil || s.Type != unix.CGROUP2_SUPER_MAGIC {
		return Cgroup{}
	}
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Cgroup{}
	}
	path, ok := parseSelfCgroup(string(self))
	if !ok {
		return Cgroup{}
	}
	return cgroupAt(filepath.Join(cgroupRoot, path))
}

// parseSelfCgroup finds the line of cgroup v2 in /proc/self/cgroup: "0::/path".
func parseSelfCgroup(s string) (path string, ok bool) {
	for line := range strings.Lines(s) {
		if path, ok = strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path, true
		}
	}
	return "", false
}

func cgroupAt(dir string) Cgroup {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return Cgroup{}
	}
	c := Cgroup{Path: dir, Controllers: strings.Fields(string(b)), Delegated: true}
	// "A cgroup is delegated by granting write access of the directory and its
	// cgroup.procs, cgroup.threads and cgroup.subtree_control files to the user."
	for _, f := range []string{"", "cgroup.procs", "cgroup.subtree_control"} {
		if unix.Access(filepath.Join(dir, f), unix.W_OK) != nil {
			c.Delegated = false
		}
	}
	return c
}
