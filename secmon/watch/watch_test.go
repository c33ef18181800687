package watch_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/boot/kernelpkg"
	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/secmon/event"
	"warder/secmon/pattern"
	"warder/secmon/pattern/sigma"
	"warder/secmon/watch"
	"warder/vmm"
)

func TestMain(m *testing.M) { testguest.Main(m) }

// await waits for a file on the share: the host's word to go on.
func await(g *testguest.Guest, name string) {
	g.Report(name, nil)
	for {
		if _, err := os.Stat("/mnt/share/" + name); err == nil {
			return
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
	}
}

var writer = testguest.Register("writer", func(g *testguest.Guest) {
	g.Check(os.MkdirAll("/mnt/share", 0o755))
	g.Check(unix.Mount("files", "/mnt/share", "virtiofs", 0, ""))
	for _, round := range []string{"first", "second", "third", "fourth", "fifth"} {
		await(g, round)
		g.Check(os.WriteFile("/mnt/share/data", []byte(round+"!"), 0o644))
	}
	g.Report("wrote", nil)
})

// otherRules need openat and no write.
const otherRules = "title: t\nlogsource: {product: linux, service: auditd}\ndetection: {s: {SYSCALL: openat, exe: /nowhere}, condition: s}\n"

// TestAttachDetach watches a machine, stops watching, and watches it again; then
// with other rules, and with those of before.
func TestAttachDetach(t *testing.T) {
	testkvm.Need(t)
	rules, err := pattern.ShippedFile("host_parameter_splice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w, err := watch.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := kernelpkg.Default(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := writer.Start(t, vmm.Config{Shares: []vmm.Share{{Tag: "files", Dir: dir}}})
	target := watch.Target{Name: "w", Machine: r.Machine, Kernel: pkg.KernelPath, Shares: map[string]string{"files": dir}}
	goOn := func(round string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, round), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	r.Event("first")
	if err := w.Attach(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if err := w.Attach(t.Context(), target); err == nil || !strings.Contains(err.Error(), "there is a machine of that name") {
		t.Errorf("attached twice: %v", err)
	}
	goOn("first")
	r.Event("second")
	if err := w.Detach(t.Context(), "w"); err != nil {
		t.Fatal(err)
	}
	if err := w.Detach(t.Context(), "w"); err == nil {
		t.Error("detached twice")
	}
	goOn("second")
	r.Event("third")
	if err := w.Attach(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	goOn("third")
	r.Event("fourth")
	parsed, err := sigma.Parse("other.yml", []byte(otherRules), sigma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := pattern.NewLibrary(parsed)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Reload(t.Context(), other); err != nil || w.Library() != other {
		t.Errorf("reloaded: %v", err)
	}
	goOn("fourth")
	r.Event("fifth")
	if err := w.Reload(t.Context(), rules); err != nil || w.Library() != rules {
		t.Errorf("reloaded: %v", err)
	}
	goOn("fifth")
	r.Event("wrote")
	r.Finish()
	if s := w.Stats(); s.Machines["w"].Hits == 0 || s.Engine.Splice.Parts != 3 || s.LostEvents+s.LostAlerts != 0 {
		t.Errorf("stats %+v", s)
	}
	w.Forget("w")
	if s := w.Stats(); len(s.Machines) != 0 {
		t.Errorf("machines after all: %+v", s.Machines)
	}

	var seen []string
	w.Events.Put(event.Event{Kind: event.Alert}) // the last of the queue
	for {
		e, err := w.Events.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if e.Kind == event.Alert {
			break
		}
		switch {
		case e.Kind == event.Lifecycle:
			seen = append(seen, "watched")
		case e.Call.File.Share == dir && e.Call.Name == "write":
			seen = append(seen, e.Call.File.Inner+" "+string(e.Call.Payload))
		}
	}
	if d := cmp.Diff([]string{"watched", "/data first!", "watched", "/data third!", "/data fifth!"}, seen); d != "" {
		t.Errorf("events (-want +got):\n%s", d)
	}
}

func TestAttachFails(t *testing.T) {
	if _, err := watch.New(nil); err == nil {
		t.Error("a watch without rules was made")
	}
	rules, err := pattern.ShippedFile("host_parameter_splice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	w, err := watch.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	notKernel := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(notKernel, make([]byte, 4096), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a name that failed is free again
		for _, path := range []string{notKernel, filepath.Join(t.TempDir(), "absent")} {
			if err := w.Attach(t.Context(), watch.Target{Name: "x", Kernel: path}); err == nil || !strings.HasPrefix(err.Error(), "watch x: ") {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if err := w.Detach(t.Context(), "x"); err == nil {
		t.Error("a machine that was never attached was detached")
	}
	w.Forget("x")
}
