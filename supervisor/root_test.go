package supervisor

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/u-root/u-root/pkg/cpio"
	"golang.org/x/sys/unix"

	"warder/guestinit/control"
	"warder/guestinit/initramfs"
	"warder/guestinit/proto"
	"warder/internal/testkvm"
	"warder/supervisor/declaration"
	"warder/supervisor/rootfs"
	"warder/vmm"
)

// userLand is warder's own as what an image has: the programs. PID 1 is there as the
// command that asks for secrets.
func userLand(t *testing.T, each func(h *tar.Header, content io.Reader)) {
	t.Helper()
	b, err := initramfs.Base()
	if err != nil {
		t.Fatal(err)
	}
	for r := cpio.Newc.Reader(bytes.NewReader(b)); ; {
		rec, err := r.ReadRecord()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		content := io.NewSectionReader(rec, 0, int64(rec.FileSize))
		h, body := &tar.Header{Name: rec.Name, Mode: int64(rec.Mode & 0o7777)}, io.Reader(content)
		switch rec.Mode & cpio.S_IFMT {
		case cpio.S_IFREG:
			h.Typeflag, h.Size = tar.TypeReg, content.Size()
		case cpio.S_IFLNK:
			target, err := io.ReadAll(content)
			if err != nil {
				t.Fatal(err)
			}
			h.Typeflag, h.Linkname, body = tar.TypeSymlink, string(target), nil
		}
		switch rec.Name {
		case "init":
			h.Name = "bin/secret"
		case "bin/secret":
			continue
		}
		if h.Typeflag != 0 && (h.Name == "bin/secret" || strings.HasPrefix(rec.Name, "bin/") || rec.Name == "etc/passwd" || rec.Name == "etc/group") {
			each(h, body)
		}
	}
}

// writeLayout makes an image of that user land, with a file and a command of its own.
func writeLayout(t *testing.T, dir string) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h *tar.Header, content io.Reader) {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if content != nil {
			if _, err := io.Copy(w, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	userLand(t, add)
	add(&tar.Header{Name: "etc/of-the-image", Mode: 0o644, Size: 5}, strings.NewReader("below"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), static.NewLayer(b.Bytes(), types.OCIUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", runtime.GOARCH
	config.Config = v1.Config{
		Entrypoint: []string{"sh", "-c"}, Cmd: []string{`echo "$GREETING from $(id -u) in $(pwd)"`},
		Env: []string{"GREETING=hello", "PATH=/bin"}, WorkingDir: "/srv/app", User: "nobody",
	}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Write(dir, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})); err != nil {
		t.Fatal(err)
	}
}

// TestImage has VMs of an image, one of which has an image of a directory as memory.
func TestImage(t *testing.T) {
	testkvm.Need(t)
	t.Parallel()
	tmp := t.TempDir()
	layoutDir, plain, shared := filepath.Join(tmp, "layout"), filepath.Join(tmp, "plain"), filepath.Join(tmp, "shared")
	writeLayout(t, layoutDir)
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
	vms := make([]*ServiceVM, 2)
	var all sync.WaitGroup
	for i := range vms {
		all.Go(func() { vms[i] = start(t, ofImage) })
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
	if err := one.Stop(t.Context(), 0); err != nil {
		t.Errorf("stop: %v", err)
	}
}
