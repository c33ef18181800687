package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/internal/testkvm"
	"warder/vmm"
)

func start(t *testing.T, spec Spec) *ServiceVM {
	t.Helper()
	testkvm.Need(t)
	spec.Log = slog.New(slog.DiscardHandler)
	vm, err := StartVM(t.Context(), spec)
	if err != nil {
		if g, ok := errors.AsType[*GuestError](err); ok {
			t.Log(strings.Join(g.Serial, "\n"))
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := vm.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return vm
}

// output runs a shell script and gives its output without the last line feed.
func output(t *testing.T, vm *ServiceVM, script string) string {
	t.Helper()
	var out, errs bytes.Buffer
	status, err := vm.Run(t.Context(), proto.Command{Args: []string{"sh", "-c", script}}, control.Stdio{Out: &out, Err: &errs})
	if err != nil || status != (proto.Status{}) {
		t.Fatalf("%s: status %+v, error %v, stderr %q", script, status, err, errs.String())
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func TestServiceVM(t *testing.T) {
	testkvm.Need(t)
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, bytes.Repeat([]byte{'d'}, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	cpus := min(2, runtime.NumCPU())
	vm := start(t, Spec{
		Name: "service", CPUs: cpus, Memory: 320 << 20,
		Disks:  []vmm.Disk{{Path: image}},
		Shares: []Share{{Host: dir, Guest: "/mnt/rw"}, {Host: dir, Guest: "/mnt/ro", ReadOnly: true}},
	})

	t.Run("is set up", func(t *testing.T) {
		for script, want := range map[string]string{
			"hostname":                                  "service",
			"uname -s":                                  "Linux",
			"cat /proc/1/comm":                          "init",
			"grep -c ^processor /proc/cpuinfo":          fmt.Sprint(cpus),
			"head -c 4 /dev/vda":                        "dddd",
			"cat /mnt/rw/file":                          "of the host",
			"cat /sys/class/net/lo/operstate":           "unknown", // what loopback says when up
			"echo new > /mnt/rw/new && cat /mnt/ro/new": "new",
			"echo x > /mnt/ro/x || echo refused":        "refused",
			"test -c /dev/ptmx && test -d /dev/shm && test -f /sys/fs/cgroup/cgroup.procs && echo mounted": "mounted",
		} {
			if got := output(t, vm, script+" 2>/dev/null"); got != want {
				t.Errorf("%s: %q, want %q", script, got, want)
			}
		}
	})

	t.Run("has the host's clock", func(t *testing.T) {
		before := time.Now().Add(-2 * time.Second)
		got := output(t, vm, "date -u")
		ts, err := time.Parse(time.UnixDate, got)
		if err != nil {
			t.Fatal(err)
		}
		if ts.Before(before) || ts.After(time.Now().Add(2*time.Second)) {
			t.Errorf("guest's clock %v, host's %v", ts, time.Now())
		}
	})

	t.Run("knows its resources", func(t *testing.T) {
		info, err := vm.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.MemoryTotal < 200<<20 || info.MemoryTotal > 320<<20 || info.MemoryAvailable == 0 || info.Uptime <= 0 || info.Processes < 1 {
			t.Errorf("info %+v", info)
		}
	})

	t.Run("runs on a terminal", func(t *testing.T) {
		var out bytes.Buffer
		status, err := vm.Run(t.Context(),
			proto.Command{Args: []string{"sh", "-c", "tty; stty; read x; echo got $x"}, TTY: true, Cols: 91, Rows: 17},
			control.Stdio{In: strings.NewReader("line\n"), Out: &out})
		if err != nil || status != (proto.Status{}) {
			t.Errorf("status %+v, error %v", status, err)
		}
		for _, want := range []string{"/dev/pts/", "rows:17 cols:91", "got line\r\n"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("output %q lacks %q", out.String(), want)
			}
		}
	})

	t.Run("runs as another user", func(t *testing.T) {
		var out bytes.Buffer
		status, err := vm.Run(t.Context(), proto.Command{Args: []string{"id"}, User: "nobody"}, control.Stdio{Out: &out})
		if err != nil || status.Code != 0 || !strings.HasPrefix(out.String(), "uid=65534") {
			t.Errorf("status %+v, error %v, output %q", status, err, out.String())
		}
	})

	t.Run("carries much data both ways", func(t *testing.T) {
		data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
		var out bytes.Buffer
		status, err := vm.Run(t.Context(), proto.Command{Args: []string{"cat"}}, control.Stdio{In: bytes.NewReader(data), Out: &out})
		if err != nil || status.Code != 0 || !bytes.Equal(out.Bytes(), data) {
			t.Errorf("status %+v, error %v, %d of %d bytes", status, err, out.Len(), len(data))
		}
	})

	t.Run("runs many at once", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				status, err := vm.Run(t.Context(), proto.Command{Args: []string{"sh", "-c", fmt.Sprintf("exit %d", i)}}, control.Stdio{})
				if err != nil || status.Code != i {
					t.Errorf("status %+v, error %v, want %d", status, err, i)
				}
			})
		}
		all.Wait()
	})

	t.Run("kills the tree of an abandoned command", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r, w := io.Pipe()
		p, err := vm.Start(ctx, proto.Command{Args: []string{"sh", "-c", "nohup sleep 4321 & echo; nohup sleep 4321"}}, control.Stdio{Out: w})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := p.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		<-p.Done()
		if got := output(t, vm, "cat /proc/[0-9]*/cmdline | grep -c 4321 || true"); got != "1" { // this very script
			t.Errorf("%s processes still have it on their command line", got)
		}
	})

	t.Run("says when memory ran out", func(t *testing.T) {
		status, err := vm.Run(t.Context(), proto.Command{Args: []string{"sh", "-c", "x=$(cat /dev/zero)"}}, control.Stdio{})
		if err != nil || !status.OutOfMemory || status.Signal != int(syscall.SIGKILL) {
			t.Errorf("status %+v, error %v", status, err)
		}
		if status, err := vm.Run(t.Context(), proto.Command{Args: []string{"true"}}, control.Stdio{}); err != nil || status != (proto.Status{}) {
			t.Errorf("the next command: status %+v, error %v", status, err)
		}
	})

	t.Run("stops in good order", func(t *testing.T) {
		ended := make(chan error, 1)
		r, w := io.Pipe()
		p, err := vm.Start(t.Context(), proto.Command{Args: []string{"sh", "-c", "echo; sleep 1000"}}, control.Stdio{Out: w})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		go func() {
			_, err := p.Wait(t.Context())
			ended <- err
		}()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := vm.Stop(ctx, 5*time.Second); err != nil {
			t.Error(err)
		}
		if e := vm.Machine().Wait(); e.Reason != vmm.PowerOff {
			t.Errorf("the machine ended by %v", e)
		}
		// Its end by SIGTERM may or may not have been told in time.
		if err := <-ended; err != nil {
			if g, ok := errors.AsType[*GuestError](err); !ok || g.Exit.Reason != vmm.PowerOff {
				t.Errorf("a command that ran meanwhile: %v", err)
			}
		}
	})
}

func TestPowerButton(t *testing.T) {
	testkvm.Need(t)
	t.Parallel()
	vm := start(t, Spec{Name: "button"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := vm.Machine().Stop(ctx); err != nil {
		t.Errorf("%v; the guest's kernel said:\n%s", err, vm.Serial())
	}
	if e := vm.Machine().Wait(); e.Reason != vmm.PowerOff {
		t.Errorf("the machine ended by %v", e)
	}
}

// TestGuestWithoutInit starts a kernel that is told of a PID 1 that is not there.
func TestGuestWithoutInit(t *testing.T) {
	testkvm.Need(t)
	t.Parallel()
	_, err := StartVM(t.Context(), Spec{Name: "headless", Cmdline: "rdinit=/no/such", Log: slog.New(slog.DiscardHandler)})
	g, ok := errors.AsType[*GuestError](err)
	if !ok || !g.Panicked || !strings.Contains(g.Cause, "found no PID 1") {
		t.Errorf("error %v", err)
	}
}

func TestGuestStuck(t *testing.T) {
	testkvm.Need(t)
	t.Parallel()
	// This PID 1 waits for input that never comes.
	_, err := StartVM(t.Context(), Spec{Name: "stuck", Cmdline: "rdinit=/bin/cat", BootTimeout: 5 * time.Second, Log: slog.New(slog.DiscardHandler)})
	if _, ok := errors.AsType[*GuestError](err); !ok {
		t.Errorf("error %v", err)
	}
}
