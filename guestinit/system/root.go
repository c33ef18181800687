package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"warder/guestinit/proto"
)

// A Root is a file system that commands see in place of the guest's own: that of
// an image, which nobody can change, below one that takes what is written, of memory
// or on a disk.
//
// One thread of this program lives in it, in a mount namespace of its own. What is
// done on that thread, and what is started from it, sees the root and nothing else;
// the rest of the program stays outside, where no command can get at it by a path.
type Root struct {
	calls chan func()
	disk  *os.File // where it is mounted, nil without one
}

// rootDir is where a root is put together.
const rootDir = "/.warder"

// OpenRoot makes the root, and its thread.
func OpenRoot(spec proto.Root) (*Root, error) {
	root := &Root{calls: make(chan func())}
	entered := make(chan error, 1)
	onOtherThread(func() {
		err := root.enter(spec)
		if entered <- err; err != nil {
			return
		}
		for f := range root.calls {
			f()
		}
	})
	if err := <-entered; err != nil {
		return nil, fmt.Errorf("root file system: %w", err)
	}
	return root, nil
}

// Do runs f in the root, one at a time. It must not start goroutines: those are
// outside.
func (r *Root) Do(f func()) {
	done := make(chan struct{})
	r.calls <- func() {
		defer close(done)
		f()
	}
	<-done
}

// onOtherThread runs f on a thread that nothing else is run on, before or after,
// and that is not the first one: what /proc says of a process is of that.
func onOtherThread(f func()) {
	go func() {
		runtime.LockOSThread() // for good: it ends with this goroutine
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		started := make(chan struct{})
		go func() { // on another one, as this one is held
			runtime.LockOSThread()
			close(started)
			f()
		}()
		<-started
		runtime.UnlockOSThread()
	}()
}

// Close has what was written be on its disk, once no command is left.
func (r *Root) Close() (err error) {
	if r.disk == nil {
		return nil
	}
	r.Do(func() {
		const flags = unix.MS_REMOUNT | unix.MS_RDONLY
		// No path leads there any more.
		at := fmt.Sprintf("/proc/self/fd/%d", r.disk.Fd())
		err = errors.Join(unix.Mount("", "/", "", flags, ""), unix.Mount("", at, "", flags, ""))
	})
	return err
}

// enter makes the file system and moves the calling thread into it.
func (r *Root) enter(spec proto.Root) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	image, writable, merged := filepath.Join(rootDir, "image"), filepath.Join(rootDir, "writable"), filepath.Join(rootDir, "merged")
	for _, dir := range []string{image, writable, merged} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := mountImage(spec.Device, spec.FileSystem, image); err != nil {
		return err
	}
	if err := mountWritable(spec.Disk, writable); err != nil {
		return err
	}
	if spec.Disk != "" {
		var err error
		if r.disk, err = os.Open(writable); err != nil {
			return err
		}
	}
	if err := overlay(image, writable, merged); err != nil {
		return err
	}
	for _, name := range []string{"dev", "proc", "sys"} {
		dir := filepath.Join(merged, name)
		if err := ownDir(dir, name); err != nil {
			return err
		}
		if err := unix.Mount("/"+name, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount /%s: %w", name, err)
		}
	}
	// What is on top of all is where every path begins, and ends that leads up.
	if err := unix.Chdir(merged); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move to /: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return errors.Join(unix.Chdir("/"), hosts())
}

// mountImage mounts the image. Where it can be, the guest reads it in place.
func mountImage(device, fileSystem, dir string) error {
	f, err := openDevice(device)
	if err != nil {
		return err
	}
	f.Close()
	options := ""
	if fileSystem == "" {
		fileSystem, options = "erofs", "dax=always"
	}
	mount := func(options string) error {
		return unix.Mount(filepath.Join("/dev", device), dir, fileSystem, unix.MS_RDONLY, options)
	}
	err = mount(options)
	if options != "" && (err == unix.EINVAL || err == unix.EOPNOTSUPP) {
		err = mount("")
	}
	switch {
	case err == unix.ENODEV:
		return fmt.Errorf("the guest kernel has no %s: it is of another kind than warder's", fileSystem)
	case err != nil:
		return fmt.Errorf("mount %s, which has %s: %w", device, fileSystem, err)
	}
	return nil
}

// mountWritable mounts what takes what is written: a disk, memory without one.
func mountWritable(disk, dir string) error {
	if disk == "" {
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV, "mode=0755"); err != nil {
			return fmt.Errorf("mount memory: %w", err)
		}
		return nil
	}
	f, err := openDevice(disk)
	if err != nil {
		return err
	}
	f.Close()
	err = unix.Mount(filepath.Join("/dev", disk), dir, "ext4", unix.MS_NODEV, "")
	switch {
	case err == unix.EINVAL:
		return errors.New("the disk for what is written has no ext4 file system: mkfs.ext4 makes one")
	case err != nil:
		return fmt.Errorf("mount %s: %w", disk, err)
	}
	return nil
}

// overlay mounts an image below a directory that takes what is written.
func overlay(image, writable, merged string) error {
	upper, work := filepath.Join(writable, "upper"), filepath.Join(writable, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	switch err := os.Mkdir(upper, 0o755); {
	case err == nil:
		var st unix.Stat_t // the upper one's root is everybody's
		if err := unix.Stat(image, &st); err != nil {
			return err
		}
		if err := errors.Join(unix.Chown(upper, int(st.Uid), int(st.Gid)), unix.Chmod(upper, st.Mode&0o7777)); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist): // it is there on a disk that was used before
		return err
	}
	if err := unix.Mount("overlay", merged, "overlay", 0, "lowerdir="+image+",upperdir="+upper+",workdir="+work); err != nil {
		if err == unix.ENODEV {
			return errors.New("the guest kernel has no overlayfs: it is of another kind than warder's")
		}
		return fmt.Errorf("mount overlay: %w", err)
	}
	return nil
}

// ownDir makes a directory of an image where there is none. An image's link would
// lead out.
func ownDir(dir, name string) error {
	st, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return os.Mkdir(dir, 0o755)
	case err != nil:
		return err
	case !st.IsDir():
		return fmt.Errorf("/%s of the image is no directory", name)
	}
	return nil
}

// hosts gives a root a table of hosts that has none.
func hosts() error {
	if err := os.MkdirAll("/etc", 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile("/etc/hosts", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	return errors.Join(err, f.Close())
}
