package watch_test

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/boot/kernelpkg"
	"warder/devices/virtio/net"
	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/secmon/event"
	"warder/secmon/lan"
	"warder/secmon/pattern"
	"warder/secmon/pattern/sigma"
	"warder/secmon/watch"
	"warder/vmm"
)

// acts are the files that the guest makes, each of which a rule responds to.
var acts = []struct{ name, response string }{{"stop", "pause"}, {"refuse", "block, pause"}, {"cut", "isolate"}, {"keep", "snapshot"}, {"end", "destroy"}}

func actRules(t *testing.T) *pattern.Library {
	t.Helper()
	var text strings.Builder
	for _, a := range acts {
		fmt.Fprintf(&text, "---\ntitle: %s\nlogsource: {product: warder, service: syscall}\ndetection: {s: {warder.syscall.name: openat, file.path: /mnt/share/%s}, condition: s}\nwarder: {response: [%s]}\n", a.name, a.name, a.response)
	}
	rules, err := sigma.Parse("acts.yml", []byte(text.String()), sigma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := pattern.NewLibrary(rules)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var actor = testguest.Register("actor", func(g *testguest.Guest) {
	g.Check(os.MkdirAll("/mnt/share", 0o755))
	g.Check(unix.Mount("files", "/mnt/share", "virtiofs", 0, ""))
	for _, a := range acts {
		await(g, "go-"+a.name)
		err := os.WriteFile("/mnt/share/"+a.name, nil, 0o644)
		g.Report("did-"+a.name, errors.Is(err, unix.EPERM))
	}
})

// checkCore looks at a snapshot: all memory, and the registers of each vCPU.
func checkCore(t *testing.T, path string, m *vmm.Machine) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, notes := uint64(0), uint64(0)
	for _, r := range m.Memory().Regions() {
		size += uint64(len(r.Bytes))
	}
	at := map[uint64]bool{} // kernel addresses share the bytes
	for _, p := range f.Progs {
		switch {
		case p.Type == elf.PT_NOTE:
			notes += p.Filesz
		case p.Type == elf.PT_LOAD && !at[p.Paddr]:
			at[p.Paddr] = true
		}
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if f.Type != elf.ET_CORE || notes == 0 || len(at) == 0 || uint64(st.Size()) < size {
		t.Errorf("%v, %d bytes of notes, %d segments, %d bytes of %d", f.Type, notes, len(at), st.Size(), size)
	}
}

// A guest is paused before its act takes place, and goes on with it when it is
// resumed; its cable is pulled; it is ended. Each alert says what was done.
func TestResponsesOnAGuest(t *testing.T) {
	testkvm.Need(t)
	w, err := watch.New(actRules(t))
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
	port, err := lan.New(lan.Config{}).AddPort(lan.PortConfig{Name: "a", VLAN: 1, MAC: net.MAC{2, 0, 0, 0, 0, 1}})
	if err != nil {
		t.Fatal(err)
	}
	r := actor.Start(t, vmm.Config{CPUs: min(2, runtime.NumCPU()), Shares: []vmm.Share{{Tag: "files", Dir: dir}}, Nets: []vmm.Net{{Port: port, MAC: port.Config().MAC}}})
	r.Event("go-stop")
	target := watch.Target{Name: "a", Machine: r.Machine, Kernel: pkg.KernelPath, Shares: map[string]string{"files": dir}, Port: port}
	if err := w.Attach(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	// goOn has the guest go on to its next act and gives what was done about it.
	goOn := func(name string) []event.Taken {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "go-"+name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := w.Alerts.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if a.Finding == nil || a.Finding.RuleTitle != name {
			t.Fatalf("%s: alert %+v", name, a)
		}
		return a.Finding.Taken
	}
	check := func(name string, want ...event.Taken) {
		t.Helper()
		if d := cmp.Diff(want, goOn(name)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	made := func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return err == nil
	}
	refused := func(name string) bool {
		t.Helper()
		return string(r.Event("did-"+name)) == "true"
	}

	paused := event.Taken{Response: "pause", VM: "a", Detail: "until it is resumed"}
	check("stop", paused)
	if made("stop") {
		t.Error("the act took place before the guest was paused")
	}
	if err := r.Machine.Resume(); err != nil {
		t.Fatal(err)
	}
	if refused("stop") || !made("stop") {
		t.Error("the act did not take place when the guest was resumed")
	}
	r.Event("go-refuse")
	check("refuse", event.Taken{Response: "block", VM: "a", Detail: "openat failed with EPERM"}, paused)
	if err := r.Machine.Resume(); err != nil {
		t.Fatal(err)
	}
	if !refused("refuse") || made("refuse") {
		t.Error("the act was not refused")
	}
	r.Event("go-cut")
	linked := func() bool {
		status := make([]byte, 2) // struct virtio_net_config has it behind the address
		r.Machine.Nets()[0].ReadConfig(status, 6)
		return status[0]&1 != 0
	}
	if !linked() {
		t.Error("there is no link before")
	}
	check("cut", event.Taken{Response: "isolate", VM: "a", Detail: "it is cut off from the LAN, the link of 1 network interfaces is down"})
	if !port.IsIsolated() {
		t.Error("the port on the LAN is not cut off")
	}
	if linked() {
		t.Error("the link is up")
	}
	if refused("cut") {
		t.Error("the act was refused")
	}
	r.Event("go-keep")
	w.Snapshots = t.TempDir()
	taken := goOn("keep")
	if len(taken) != 1 || taken[0].Failed != "" || filepath.Dir(taken[0].Detail) != w.Snapshots {
		t.Fatalf("%+v", taken)
	}
	checkCore(t, taken[0].Detail, r.Machine)
	refused("keep") // it goes on by itself
	r.Event("go-end")
	check("end", event.Taken{Response: "destroy", VM: "a"})
	if e := r.Machine.Wait(); e.Reason != vmm.Killed {
		t.Errorf("the machine ended: %v", e)
	}
	w.Forget("a")
}
