package introspect

import (
	"context"
	"fmt"
	"strings"
)

// MountInfo is a mount as /proc/PID/mountinfo shows it.
type MountInfo struct {
	ID      int    `json:"id"`
	Parent  int    `json:"parent"`
	Device  string `json:"device"` // major:minor
	Root    string `json:"root"`   // of the mount within its file system
	Target  string `json:"target"` // from the root of the namespace
	FS      string `json:"fs"`
	Source  string `json:"source"`
	Options string `json:"options"`
	Super   string `json:"super_options"` // of the file system itself
}

// maxMounts is what Linux allows in a namespace by default, fs.mount-max.
const maxMounts = 100_000

// Mounts lists the mounts of a process's namespace, outermost first; pid 1 is the
// guest's own.
func (l *Live) Mounts(ctx context.Context, pid int) ([]MountInfo, error) {
	q := l.ask(ctx)
	t, err := q.find(pid)
	if err != nil {
		return nil, err
	}
	root := t.to("nsproxy", "nsproxy").to("mnt_ns", "mnt_namespace").to("root", "mount")
	if q.err != nil {
		return nil, fmt.Errorf("introspect: mounts of process %d: %w", pid, q.take())
	}
	var all []MountInfo
	q.again(func() {
		all = all[:0]
		todo := []object{root}
		for len(todo) > 0 && q.err == nil {
			m := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if len(all) == maxMounts {
				q.fail(fmt.Errorf("%w: mounts without end", ErrWalk))
				return
			}
			all = append(all, q.mount(m))
			for c := range q.list(m.in("mnt_mounts", "list_head").addr, maxMounts, "mount", "mnt_child") {
				todo = append(todo, c)
			}
		}
	})
	if err := q.take(); err != nil {
		return nil, fmt.Errorf("introspect: mounts of process %d: %w", pid, err)
	}
	// The namespace's root is mounted on a file system that nobody sees.
	return all, nil
}

// Flags of mounts (include/linux/mount.h) and of file systems (include/linux/fs.h).
var (
	mountFlags = []flagName{{0x01, "nosuid"}, {0x02, "nodev"}, {0x04, "noexec"}, {0x08, "noatime"}, {0x10, "nodiratime"}, {0x20, "relatime"}, {0x100, "nosymfollow"}}
	superFlags = []flagName{{1 << 4, "sync"}, {1 << 7, "dirsync"}, {1 << 6, "mand"}, {1 << 25, "lazytime"}}
)

const (
	mountReadOnly = 0x40
	superReadOnly = 1
)

type flagName struct {
	bit  uint64
	name string
}

func options(readOnly bool, v uint64, flags []flagName) string {
	names := []string{"rw"}
	if readOnly {
		names[0] = "ro"
	}
	for _, f := range flags {
		if v&f.bit != 0 {
			names = append(names, f.name)
		}
	}
	return strings.Join(names, ",")
}

func (q *question) mount(m object) MountInfo {
	vfs := m.in("mnt", "vfsmount")
	super := vfs.to("mnt_sb", "super_block")
	dev := super.uint("s_dev")
	info := MountInfo{
		ID: m.int("mnt_id"), Parent: m.to("mnt_parent", "mount").int("mnt_id"),
		Device: fmt.Sprintf("%d:%d", dev>>20, dev&0xfffff),
	}
	own, of := vfs.uint("mnt_flags"), super.uint("s_flags")
	info.Options = options(own&mountReadOnly != 0, own, mountFlags)
	info.Super = options(of&superReadOnly != 0, of, superFlags)
	if q.err != nil {
		return info
	}
	at := place{m.addr, vfs.uint("mnt_root")}
	for _, read := range []func() error{
		func() (err error) { info.FS, info.Source, err = q.fileSystem(at.mount); return err },
		func() (err error) { info.Root, err = q.inner(at.dentry); return err },
		func() (err error) { info.Target, err = q.absolute(at); return err },
	} {
		if q.err != nil {
			return info
		}
		if err := read(); err != nil {
			q.fail(err)
		}
	}
	q.keep(info.FS + info.Source + info.Root + info.Target)
	if info.Source == "" {
		info.Source = "none"
	}
	return info
}

// find gives the process of a number in the guest's first namespace.
func (q *question) find(pid int) (object, error) {
	var found object
	walks := []func(func(object)){q.tasks, q.pids, q.tree}
	for _, walk := range walks {
		q.again(func() {
			walk(func(t object) {
				if found.isNil() && t.int("tgid") == pid {
					found = t
				}
			})
		})
		err := q.take()
		if !found.isNil() {
			return found, nil
		}
		if err != nil {
			return found, fmt.Errorf("introspect: process %d: %w", pid, err)
		}
	}
	return found, fmt.Errorf("introspect: %w: no process %d", ErrNoProcess, pid)
}
