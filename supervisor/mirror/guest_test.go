package mirror

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"warder/guestinit"
	"warder/guestinit/control"
	"warder/guestinit/initramfs"
	"warder/guestinit/proto"
	"warder/internal/testkvm"
	"warder/secmon/introspect"
	"warder/secmon/pattern"
	"warder/secmon/watch"
	"warder/supervisor"
	"warder/supervisor/declaration"
	"warder/supervisor/hosting"
	"warder/supervisor/link"
)

// TestVM has supervisors in VMs of their own: one that dies, that is seen to be attacked,
// or in which there is something else than it was made with, is followed by another from the
// same image, with other credentials, and its memory is kept.
func TestVM(t *testing.T) {
	testkvm.Need(t)
	dir := t.TempDir()
	rules, err := pattern.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	w, err := watch.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var vms []*supervisor.ServiceVM
	ending := 0
	m := &VMs{
		Keep: dir, Log: slog.New(slog.DiscardHandler), CheckEvery: time.Second,
		Began: func(vm *supervisor.ServiceVM) {
			mu.Lock()
			defer mu.Unlock()
			vms = append(vms, vm)
			if err := w.Attach(t.Context(), watch.Target{Name: Name, Machine: vm.Machine(), Kernel: vm.Kernel()}); err != nil {
				t.Error(err)
			}
		},
		Ending: func(*supervisor.ServiceVM) {
			mu.Lock()
			defer mu.Unlock()
			w.Forget(Name)
			ending++
		},
		Refused:   func(why string) { t.Error(why) },
		Unchecked: func(why string) { t.Error(why) },
	}
	h := hosting.New(nothing{}, nil, hosting.Config{})
	if err := h.Declare(declaration.Service{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	k, err := Start(t.Context(), h, m, func(e Event) { t.Log(e.Action, e.Text) }, m.Log)
	if err != nil {
		t.Fatal(err)
	}
	first := vms[0]
	info, err := first.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("of %d MiB it leaves %d, and takes %d of the host's", info.MemoryTotal>>20, info.MemoryAvailable>>20, first.Machine().MemoryStats().Used>>20)
	if info.MemoryAvailable < 16<<20 {
		t.Errorf("%d MiB are left to it", info.MemoryAvailable>>20)
	}
	// There is nothing in it that a program could be run with, and the key is gone.
	for _, args := range [][]string{{"sh", "-c", "true"}, {"/bin/cat", link.CredentialFile}} {
		if _, err := first.Run(t.Context(), proto.Command{Args: args}, control.Stdio{}); err == nil {
			t.Errorf("%q ran", args)
		}
	}
	for range 20 { // the time of one question
		if _, err := h.Status(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if _, err := h.Status(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	t.Log("a request is answered after", time.Since(began))

	w.Mirror = func(string) (string, error) {
		_, err := k.Mirror(context.Background(), "a rule saw it attacked")
		return "", err
	}
	for i, loss := range []struct {
		why  string
		lose func(vm *supervisor.ServiceVM)
	}{
		{"it ended", func(vm *supervisor.ServiceVM) { vm.Machine().Kill() }},
		{"a rule saw it attacked", func(vm *supervisor.ServiceVM) {
			vm.Run(t.Context(), proto.Command{Args: []string{"/init"}}, control.Stdio{}) // it may be cut off
		}},
		{"it fails its integrity check: process: ", func(vm *supervisor.ServiceVM) { patch(t, vm) }},
	} {
		mu.Lock()
		last := vms[len(vms)-1]
		mu.Unlock()
		loss.lose(last)
		for k.Status().Mirrors == i {
			time.Sleep(10 * time.Millisecond)
		}
		if st, err := h.Status(t.Context(), "a"); err != nil || st.Name != "a" { // it waits for the next one
			t.Fatalf("%+v, %v", st, err)
		}
		st := k.Status()
		if len(vms) != i+2 || !strings.HasPrefix(st.Reason, loss.why) || st.Took <= 0 {
			t.Errorf("%d VMs, %+v", len(vms), st)
		}
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	k.Close()
	if ending != 4 {
		t.Errorf("%d ends of 4 were told", ending)
	}
	cores, err := filepath.Glob(filepath.Join(dir, "supervisor-*.core"))
	if err != nil || len(cores) != 3 {
		t.Fatalf("kept: %q, %v", cores, err)
	}
	for _, core := range cores {
		if st, err := os.Stat(core); err != nil || st.Size() < DefaultMemory || st.Mode().Perm() != 0o600 {
			t.Errorf("%+v, %v", st, err)
		}
	}
	for _, vm := range vms {
		select {
		case <-vm.Done():
		default:
			t.Error("a VM is left")
		}
	}
}

// patch changes the last byte of a page of the code of the decision module.
func patch(t *testing.T, vm *supervisor.ServiceVM) {
	t.Helper()
	kernel, err := introspect.OpenWhole(vm.Kernel())
	if err != nil {
		t.Fatal(err)
	}
	live, err := introspect.Attach(t.Context(), introspect.Of(vm.Machine()), kernel)
	if err != nil {
		t.Fatal(err)
	}
	all, err := live.Processes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(p introspect.ProcessInfo) bool { return p.Exe == program })
	if i < 0 {
		t.Fatalf("no process runs %s: %+v", program, all)
	}
	maps, err := live.Maps(t.Context(), all[i].PID)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range maps {
		if m.Name != program || !strings.Contains(m.Perms, "x") {
			continue
		}
		at := uint64(0)
		err := live.Resident(t.Context(), all[i].PID, uint64(m.Start), uint64(m.End), func(page uint64, code []byte) error {
			at = page + uint64(len(code)) - 1
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var was [1]byte
		if err := live.Read(t.Context(), all[i].PID, at, was[:]); err != nil {
			t.Fatal(err)
		}
		if err := live.Write(t.Context(), all[i].PID, at, []byte{^was[0]}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStrangers has the decision module run in the VM of a service: nobody is behind
// the port there. Where somebody is, its key does not fit.
func TestStrangers(t *testing.T) {
	testkvm.Need(t)
	_, module, err := initramfs.Supervisor()
	if err != nil {
		t.Fatal(err)
	}
	own, _, err := link.NewCredentials()
	if err != nil {
		t.Fatal(err)
	}
	_, its, err := link.NewCredentials()
	if err != nil {
		t.Fatal(err)
	}
	its.Peer = own.Certificate // it knows the host, and the host does not know it
	credential, err := its.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	tries := uint64(0)
	vm, err := supervisor.StartVM(t.Context(), supervisor.Spec{
		Name: "service", Log: slog.New(slog.DiscardHandler),
		Files: []guestinit.File{{Path: program, Mode: 0o755, Data: module}, {Path: "/key", Mode: 0o600, Data: credential}},
		VsockWatcher: Guard(nil, func(n uint64) {
			mu.Lock()
			defer mu.Unlock()
			tries += n
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer vm.Close()
	run := func() string {
		t.Helper()
		said := &tail{}
		script := fmt.Sprintf("cp /key %s && exec %s", link.CredentialFile, program)
		status, err := vm.Run(t.Context(), proto.Command{Args: []string{"sh", "-c", script}}, control.Stdio{Out: said, Err: said})
		if err != nil || status.ExitCode() != 1 {
			t.Errorf("status %+v, error %v", status, err)
		}
		return said.String()
	}
	if said := run(); !strings.Contains(said, "the host's port for supervisors") {
		t.Errorf("nobody is there, and it said %q", said)
	}
	mu.Lock()
	if tries != 1 {
		t.Errorf("%d tries were seen", tries)
	}
	mu.Unlock()

	l, err := vm.Machine().Vsock().Listen(link.Port)
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan string, 1)
	m := &VMs{Refused: func(why string) { refused <- why }}
	ctx, cancel := context.WithCancel(t.Context())
	accepted := make(chan *tls.Conn, 1)
	go func() {
		c, _ := m.accept(ctx, l, own, &machine{done: make(chan struct{})})
		accepted <- c
	}()
	if said := run(); said == "" {
		t.Error("it was refused without a word")
	}
	if why := <-refused; !strings.Contains(why, "not the peer") {
		t.Errorf("refused: %s", why)
	}
	cancel()
	if c := <-accepted; c != nil {
		t.Error("a stranger was let in")
	}
}
