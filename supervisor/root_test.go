package supervisor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"warder/guestinit/control"
	"warder/guestinit/initramfs"
	"warder/guestinit/proto"
	"warder/internal/testimage"
	"warder/internal/testkvm"
	"warder/supervisor/declaration"
	"warder/supervisor/rootfs"
	"warder/vmm"
)

// TestImage has VMs of an image, one of which has an image of a directory as memory.
func TestImage(t *testing.T) {
	testkvm.Need(t)
	t.Parallel()
	tmp := t.TempDir()
	layoutDir, plain, shared := filepath.Join(tmp, "layout"), filepath.Join(tmp, "plain"), filepath.Join(tmp, "shared")
	base, err := initramfs.Base()
	if err != nil {
		t.Fatal(err)
	}
	testimage.WriteLayout(t, layoutDir, base)
	for _, dir := range []string{filepath.Join(plain, "sub"), shared} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("of a directory\n", 1000)
	if err := errors.Join(os.WriteFile(filepath.Join(plain, "sub", "file"), []byte(long), 0o640),
		os.Link(filepath.Join(plain, "sub", "file"), filepath.Join(plain, "twice")), os.Symlink("sub/file", filepath.Join(plain, "link")),
		unix.Setxattr(filepath.Join(plain, "twice"), "user.note", []byte("kept"), 0)); err != nil {
		t.Fatal(err)
	}
	store, err := rootfs.Open(rootfs.Options{Dir: filepath.Join(tmp, "store"), Limit: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	root := func(kind declaration.ImageKind, path string) Root {
		l, err := store.Get(t.Context(), declaration.Image{Kind: kind, Name: path})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return Root{Path: l.Path, Args: l.Config.Args, Env: l.Config.Env, Dir: l.Config.Dir, User: l.Config.User}
	}
	ofImage := Spec{
		Name: "image", Root: root(declaration.ImageLayout, layoutDir), Shares: []Share{{Host: shared, Guest: "/mnt/shared"}},
		Secrets: []string{"db"}, Secret: func(name string) ([]byte, error) {
			if name != "db" {
				return nil, proto.Errorf(proto.CodeRefused, "not for this one")
			}
			return []byte("of the host"), nil
		},
		Pmems: []vmm.Pmem{{Path: root(declaration.ImageDir, plain).Path}},
	}
	disk := filepath.Join(tmp, "disk")
	if err := os.WriteFile(disk, testimage.Ext4(t), 0o600); err != nil {
		t.Fatal(err)
	}
	onDisk := Spec{Name: "on-disk", Root: ofImage.Root}
	onDisk.Root.Disk = disk
	vms := make([]*ServiceVM, 2)
	var all sync.WaitGroup
	for i, spec := range []Spec{ofImage, onDisk} {
		all.Go(func() { vms[i] = start(t, spec) })
	}
	all.Wait()
	if t.Failed() {
		return
	}
	say := func(vm *ServiceVM, cmd proto.Command) string {
		t.Helper()
		var out bytes.Buffer
		status, err := vm.Run(t.Context(), cmd, control.Stdio{Out: &out, Err: &out})
		if err != nil || status != (proto.Status{}) {
			t.Errorf("%q: status %+v, error %v", cmd.Args, status, err)
		}
		return strings.TrimSuffix(out.String(), "\n")
	}
	sh := func(vm *ServiceVM, script string) string {
		t.Helper()
		return say(vm, proto.Command{Args: []string{"sh", "-c", script}, Dir: "/", User: "root"})
	}
	one, other := vms[0], vms[1]
	if got := say(one, proto.Command{}); got != "hello from 65534 in /srv/app" {
		t.Errorf("the image's command says %q", got)
	}
	if got := say(one, proto.Command{Env: []string{"GREETING=hi"}, User: "root", Dir: "/etc"}); got != "hi from 0 in /etc" {
		t.Errorf("the image's command says %q to what is given", got)
	}
	for _, c := range []struct{ script, want string }{
		{"cat /etc/of-the-image", "below"},
		{"echo new > /etc/of-the-image && echo x > /bin/new && rm /bin/yes && cat /etc/of-the-image", "new"},
		{"test -e /init || test -e /.warder || echo nothing else", "nothing else"},
		{"echo x > /mnt/shared/file && cat /mnt/shared/file", "x"},
		{"cat /proc/1/comm", "init"},
		{"test -c /dev/null && test -d /dev/pts && test -f /sys/fs/cgroup/cgroup.procs && echo mounted", "mounted"},
		{"head -n 1 /etc/hosts", "127.0.0.1 localhost"},
		{"hostname", "image"},
	} {
		if got := sh(one, c.script); got != c.want {
			t.Errorf("%s: %q, want %q", c.script, got, c.want)
		}
	}
	if got := say(one, proto.Command{Args: []string{"cat", "/run/secrets/db"}}); got != "of the host" {
		t.Errorf("a secret of the VM: %q", got)
	}
	if got := say(one, proto.Command{Args: []string{"secret", "db"}}); got != "of the host" {
		t.Errorf("a secret that was asked for: %q", got)
	}
	if got := sh(one, "secret other 2>&1 || echo $?; echo x 2>/dev/null > /run/secrets/db || echo refused"); !strings.HasPrefix(got, "secret: not for this one\n1\n") || !strings.Contains(got, "refused") {
		t.Errorf("a secret of another: %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(shared, "file")); err != nil || string(b) != "x\n" {
		t.Errorf("the share holds %q (%v)", b, err)
	}
	if got := sh(other, "cat /etc/of-the-image && test -e /bin/yes && test ! -e /bin/new && echo clean"); got != "belowclean" {
		t.Errorf("another VM of the image: %q", got)
	}
	if got := say(one, proto.Command{Args: []string{"tty"}, TTY: true}); !strings.Contains(got, "/dev/pts/") {
		t.Errorf("on a terminal: %q", got)
	}
	// The kernel reads an image that another command of this VM has nothing of.
	if got := sh(one, "mkdir /mnt/plain && mount -t erofs -o ro /dev/pmem0 /mnt/plain && cat /mnt/plain/link"); got+"\n" != long {
		t.Errorf("of a directory: %d bytes, want %d", len(got)+1, len(long))
	}
	if got := sh(one, "ls -l /mnt/plain/sub/file"); !strings.HasPrefix(got, "-rw-r----- root root 15000") {
		t.Errorf("of a directory: %q", got)
	}
	if got := sh(one, "echo x 2>/dev/null > /mnt/plain/twice || echo refused"); !strings.HasPrefix(got, "refused") {
		t.Errorf("a write to an image: %q", got)
	}
	if got := sh(other, "echo stays on the disk > /srv/app/kept && rm /etc/of-the-image && cat /srv/app/kept"); got != "stays on the disk" {
		t.Errorf("on a disk: %q", got)
	}
	for _, vm := range vms {
		if err := vm.Stop(t.Context(), 0); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	b, err := os.ReadFile(disk)
	if err != nil {
		t.Fatal(err)
	}
	// struct ext4_super_block: s_state, which is 1 when nothing is left to be written.
	if state := binary.LittleEndian.Uint16(b[1024+58:]); state != 1 || !bytes.Contains(b, []byte("stays on the disk\n")) {
		t.Errorf("the disk is left in state %d", state)
	}
}
