package process

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// cgroups makes one cgroup per command, so that all a command has started can
// be killed and its deaths for want of memory are told from others'.
type cgroups struct {
	root string // the cgroup of all commands

	mu    sync.Mutex
	stale []string // ended, but some process of theirs lived on
}

// newCgroups makes the cgroup of all commands, below which each has its own.
func newCgroups(root string) *cgroups {
	all := filepath.Join(root, "commands")
	if err := os.Mkdir(all, 0o755); err != nil && !os.IsExist(err) {
		all = root
	}
	for _, dir := range []string{root, all} {
		// Best effort: without the controller the count of kills is not there.
		os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory"), 0)
	}
	return &cgroups{root: all}
}

func (g *cgroups) make(id uint64) (*cgroup, error) {
	g.sweep()
	path := filepath.Join(g.root, fmt.Sprintf("command-%d", id))
	if err := os.Mkdir(path, 0o755); err != nil && !os.IsExist(err) {
		return nil, err
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &cgroup{all: g, dir: dir}, nil
}

// sweep removes what is empty by now.
func (g *cgroups) sweep() {
	g.mu.Lock()
	defer g.mu.Unlock()
	var left []string
	for _, path := range g.stale {
		if os.Remove(path) != nil {
			left = append(left, path)
		}
	}
	g.stale = left
}

// A cgroup is that of one command. A nil one does nothing.
type cgroup struct {
	all *cgroups
	dir *os.File
}

func (c *cgroup) fd() int { return int(c.dir.Fd()) }

// kill is cgroup.kill, Linux 5.14.
func (c *cgroup) kill() error {
	return os.WriteFile(filepath.Join(c.dir.Name(), "cgroup.kill"), []byte("1"), 0)
}

// oomKilled says whether a process of the command was killed for want of
// memory; without a cgroup, whether any was since the count was before.
func (c *cgroup) oomKilled(before uint64) bool {
	if c != nil {
		path := filepath.Join(c.dir.Name(), "memory.events")
		if _, err := os.Stat(path); err == nil {
			return counter(path, "oom_kill") > 0
		}
	}
	return oomKills() > before
}

func (c *cgroup) remove() {
	if c == nil {
		return
	}
	c.dir.Close()
	if os.Remove(c.dir.Name()) != nil {
		c.all.mu.Lock()
		c.all.stale = append(c.all.stale, c.dir.Name())
		c.all.mu.Unlock()
	}
}

// oomKills is how many processes the kernel has killed for want of memory.
func oomKills() uint64 { return counter("/proc/vmstat", "oom_kill") }

// counter reads one value from a file of "key value" lines, 0 when it is not
// there.
func counter(path, key string) uint64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if v, ok := strings.CutPrefix(lines.Text(), key+" "); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	return 0
}
