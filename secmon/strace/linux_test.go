package strace_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"
	"golang.org/x/sys/unix"

	"warder/boot/kernelpkg"
	"warder/boot/linked"
	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/secmon/introspect"
	"warder/secmon/strace"
	"warder/secmon/trap"
	"warder/vmm"
)

func TestMain(m *testing.M) { testguest.Main(m) }

// workload is what the guest does, under a strace of its own. limit is how much
// of strings both print.
var workload = []string{
	"/bin/busybox", "sh", "-c",
	`cd /tmp; echo hello >a; ln -s a b; cat b; mkdir d; mv a d/a; ls d; cat absent; (rm b; exit 3); kill -0 $$; exec /bin/busybox cp d/a c`,
}

const limit = 64

var straced = testguest.Register("straced", func(g *testguest.Guest) {
	g.Check(os.MkdirAll("/mnt/share", 0o755))
	g.Check(unix.Mount("files", "/mnt/share", "virtiofs", 0, ""))
	g.Report("ready", nil)
	for {
		if _, err := os.Stat("/mnt/share/armed"); err == nil {
			break
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
	}
	for _, applet := range []string{"cat", "cp", "ln", "ls", "mkdir", "mv", "rm"} {
		g.Check(os.Symlink("busybox", "/bin/"+applet))
	}
	cmd := exec.Command("/usr/bin/strace", append([]string{"-ff", "-s", "64", "-o", "/tmp/st"}, workload...)...)
	cmd.Env = []string{"PATH=/bin"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		g.Fatal(err, ": ", string(out))
	}
	files, err := filepath.Glob("/tmp/st.*")
	g.Check(err)
	all := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		g.Check(err)
		all[strings.TrimPrefix(f, "/tmp/st.")] = string(b)
	}
	g.Report("strace", all)
})

// withLibraries is programs with what they are linked to, as an initramfs.
func withLibraries(t *testing.T, programs ...string) []byte {
	t.Helper()
	files, err := linked.Files(runtime.GOARCH, programs...)
	if err != nil {
		testkvm.Missing(t, err.Error())
	}
	var records []cpio.Record
	seen := map[string]bool{}
	for path, data := range files {
		for dir := filepath.Dir(path); dir != "/" && !seen[dir]; dir = filepath.Dir(dir) {
			seen[dir] = true
			records = append(records, cpio.Directory(dir[1:], 0o755))
		}
		records = append(records, cpio.StaticFile(path[1:], string(data), 0o755))
	}
	slices.SortStableFunc(records, func(a, b cpio.Record) int { return strings.Compare(a.Name, b.Name) })
	return testguest.Archive(t, records)
}

// TestAsStraceSeesIt traces processes that strace traces inside the guest at the
// same time: both have to print the same.
func TestAsStraceSeesIt(t *testing.T) {
	testkvm.Need(t)
	dir := t.TempDir()
	r := straced.Start(t, vmm.Config{
		CPUs: min(2, runtime.NumCPU()), Memory: 384 << 20, Shares: []vmm.Share{{Tag: "files", Dir: dir}},
		Initrd: [][]byte{withLibraries(t, "/usr/bin/strace", "/bin/busybox")},
	})
	r.Event("ready")
	pkg, err := kernelpkg.Default(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	k, err := introspect.Open(pkg.KernelPath)
	if err != nil {
		t.Fatal(err)
	}
	calls, err := strace.ParseSet(runtime.GOARCH, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	trace, err := strace.Attach(ctx, "vm", trap.Of(r.Machine), k, strace.Config{Calls: calls, Command: workload, Follow: true}, limit)
	if err != nil {
		t.Fatal(err)
	}
	ours := map[string][]string{}
	reading, stop := context.WithCancel(t.Context())
	read := make(chan struct{})
	go func() {
		defer close(read)
		for {
			e, err := trace.Next(reading)
			if err != nil {
				return
			}
			pid := pidOf(&e)
			ours[pid] = append(ours[pid], strace.Line(&e, limit, false))
			if s := strace.Ended(&e, false); s != "" {
				ours[pid] = append(ours[pid], s)
			}
		}
	}()
	if err := os.WriteFile(filepath.Join(dir, "armed"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	theirs := testguest.Get[map[string]string](r, "strace")
	if err := trace.Drained(ctx); err != nil {
		t.Error(err)
	}
	if err := trace.Detach(ctx); err != nil {
		t.Error(err)
	}
	stop()
	<-read
	if n := trace.Unfollowed(); n != 0 {
		t.Errorf("%d calls were not followed", n)
	}
	r.Finish()
	compare(t, theirs, ours)
}
