// Package system does to a Linux guest what its PID 1 must: file systems,
// modules, clock, entropy, power.
package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"warder/guestinit/proto"
)

type mount struct {
	fstype, target string
	flags          uintptr
	data           string
}

// base is what every guest has mounted. The kernel mounts nothing by itself
// for an initramfs.
var base = []mount{
	{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"devtmpfs", "/dev", unix.MS_NOSUID, "mode=0755"},
	{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
	{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	{"tmpfs", "/tmp", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	{"cgroup2", CgroupRoot, unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
}

// CgroupRoot is where MountBase mounts cgroup v2.
const CgroupRoot = "/sys/fs/cgroup"

// links are what programs expect beside the kernel's own nodes in /dev.
var links = map[string]string{
	"/dev/fd":     "/proc/self/fd",
	"/dev/stdin":  "/proc/self/fd/0",
	"/dev/stdout": "/proc/self/fd/1",
	"/dev/stderr": "/proc/self/fd/2",
}

// MountBase mounts the kernel's own file systems. It goes on after a failure,
// so that a guest kernel without one of them still comes up.
func MountBase() error {
	var errs []error
	for _, m := range base {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		err := unix.Mount(m.fstype, m.target, m.fstype, m.flags, m.data)
		if err != nil && err != unix.EBUSY { // EBUSY: it is there already
			errs = append(errs, fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err))
		}
	}
	for link, target := range links {
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, os.ErrExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Mount mounts what the host asked for, on a directory that it makes.
func Mount(m proto.Mount) error {
	if !filepath.IsAbs(m.Target) {
		return fmt.Errorf("mount %s: target %q is not an absolute path", m.Source, m.Target)
	}
	if err := os.MkdirAll(m.Target, 0o755); err != nil {
		return err
	}
	var flags uintptr
	if m.ReadOnly {
		flags |= unix.MS_RDONLY
	}
	err := unix.Mount(m.Source, m.Target, m.Type, flags, m.Options)
	switch {
	case err == unix.ENODEV:
		return fmt.Errorf("mount %s on %s: the guest kernel has no file system %q", m.Source, m.Target, m.Type)
	case err != nil:
		return fmt.Errorf("mount %s (%s) on %s: %w", m.Source, m.Type, m.Target, err)
	}
	return nil
}

// keep are file system types that UnmountAll leaves: nothing of theirs is
// stored anywhere.
var keep = map[string]bool{
	"rootfs": true, "proc": true, "sysfs": true, "devtmpfs": true, "devpts": true,
	"tmpfs": true, "ramfs": true, "cgroup2": true, "securityfs": true, "debugfs": true, "tracefs": true, "bpf": true,
}

// UnmountAll unmounts what keeps data and the calling thread sees, the last mounted
// first. What cannot be unmounted is made read-only, which writes it out as well.
func UnmountAll() error {
	b, err := os.ReadFile("/proc/thread-self/mounts")
	if err != nil {
		return err
	}
	var errs []error
	for _, target := range dataMounts(string(b)) {
		if unix.Unmount(target, 0) == nil {
			continue
		}
		if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", target, err))
		}
	}
	return errors.Join(errs...)
}

// dataMounts gives the targets in a mounts table, proc_pid_mounts(5), that
// hold data, the last first.
func dataMounts(table string) []string {
	var targets []string
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 3 || keep[f[2]] {
			continue
		}
		targets = append([]string{unescape.Replace(f[1])}, targets...)
	}
	return targets
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
