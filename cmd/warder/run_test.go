package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/internal/testkvm"
	"warder/supervisor"
)

// asWarder makes this test binary the command itself.
const asWarder = "WARDER_TEST_AS_COMMAND"

// withoutKVM hides /dev before.
const withoutKVM = "WARDER_TEST_WITHOUT_KVM"

func TestMain(m *testing.M) {
	if os.Getenv(asEcho) != "" {
		echoInGuest()
	}
	if to := os.Getenv(asPeer); to != "" {
		peerInGuest(to)
		return
	}
	if os.Getenv(asWarder) != "" {
		if os.Getenv(withoutKVM) != "" {
			if err := unix.Mount("tmpfs", "/dev", "tmpfs", 0, ""); err != nil {
				panic(err)
			}
		}
		main()
	}
	os.Exit(m.Run())
}

// patience is for a VM inside an emulated machine that others use too.
const patience = 4 * time.Minute

// inVM is for a test that starts a VM: two of those at a time keep the lab's
// processors busy.
func inVM(t *testing.T) {
	t.Helper()
	testkvm.Need(t)
	t.Parallel()
}

// talk starts a command, and gives what it reads and what it writes.
func talk(t *testing.T, cmd *exec.Cmd) (in io.WriteCloser, out io.Reader) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if out, err = cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return in, out
}

type result struct {
	status         int
	stdout, stderr string
}

func warderCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return warderUntil(t, ctx, args...)
}

// warderUntil is a command that is killed when ctx ends.
func warderUntil(t *testing.T, ctx context.Context, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), asWarder+"=1")
	return cmd
}

func finish(t *testing.T, cmd *exec.Cmd, err error) int {
	t.Helper()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok && !exit.Exited() {
		t.Fatalf("warder died: %v", exit)
	}
	return cmd.ProcessState.ExitCode()
}

func warder(t *testing.T, stdin io.Reader, args ...string) result {
	t.Helper()
	cmd := warderCommand(t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	err := cmd.Run()
	return result{finish(t, cmd, err), stdout.String(), stderr.String()}
}

func (r result) check(t *testing.T, status int, stdout string, stderr ...string) {
	t.Helper()
	if r.status != status || r.stdout != stdout {
		t.Errorf("status %d, output %q; want %d, %q\nstderr: %s", r.status, r.stdout, status, stdout, r.stderr)
	}
	for _, want := range stderr {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("stderr %q lacks %q", r.stderr, want)
		}
	}
	if len(stderr) == 0 && r.stderr != "" {
		t.Errorf("stderr %q, want none", r.stderr)
	}
}

func TestRunUsage(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no command":     {nil, "give it after --"},
		"unknown flag":   {[]string{"--no-such-flag", "true"}, "--no-such-flag"},
		"memory":         {[]string{"--memory", "much", "true"}, "as in 512M"},
		"share":          {[]string{"--share", "/tmp", "true"}, "HOST:GUEST"},
		"share's host":   {[]string{"--share", "/no/such:/x", "true"}, "/no/such"},
		"share's guest":  {[]string{"--share", "/tmp:relative", "true"}, ""},
		"disk":           {[]string{"--disk", ":ro", "true"}, "PATH"},
		"terminal input": {[]string{"-it", "true"}, "not a terminal"},
	} {
		t.Run(name, func(t *testing.T) {
			if r := warder(t, nil, append([]string{"run"}, tt.args...)...); r.status != statusFailed || !strings.Contains(r.stderr, tt.want) {
				t.Errorf("status %d, stderr %q; want %d, %q", r.status, r.stderr, statusFailed, tt.want)
			}
		})
	}
}

// TestRunWithoutKVM has /dev/kvm away, in a mount namespace of its own.
func TestRunWithoutKVM(t *testing.T) {
	if os.Getuid() != 0 {
		testkvm.Missing(t, "root, to take /dev/kvm away")
	}
	cmd := warderCommand(t, "run", "--", "true")
	cmd.Env = append(cmd.Env, withoutKVM+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if status := finish(t, cmd, cmd.Run()); status != statusFailed {
		t.Errorf("status %d", status)
	}
	if lines := strings.Split(strings.TrimSpace(stderr.String()), "\n"); len(lines) != 2 || !strings.Contains(lines[1], "--lab") {
		t.Errorf("not two lines that say what to do:\n%s", stderr.String())
	}
}

func TestRunCommand(t *testing.T) {
	inVM(t)
	r := warder(t, nil, "run", "--", "sh", "-c", "uname -s; head -n 1 /proc/cpuinfo > /dev/null && echo err >&2; exit 7")
	r.check(t, 7, "Linux\n", "err\n")
}

func TestRunInput(t *testing.T) {
	inVM(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "here"), []byte("shared\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := warder(t, strings.NewReader("hi\n"), "run", "-i", "--share", dir+":/x/y", "-w", "/x", "-e", "A=b c", "--",
		"sh", "-c", `cat; cat y/here; pwd; echo "$A"; echo back > y/there`)
	r.check(t, 0, "hi\nshared\n/x\nb c\n")
	if b, err := os.ReadFile(filepath.Join(dir, "there")); err != nil || string(b) != "back\n" {
		t.Errorf("the guest's file holds %q, error %v", b, err)
	}
}

func TestRunNotFound(t *testing.T) {
	inVM(t)
	warder(t, nil, "run", "--", "no-such-command").check(t, statusNotFound, "", "no-such-command: not found")
}

// TestExplain has the statuses that take no VM to come about.
func TestExplain(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want exitStatus
	}{
		"not found":      {proto.Errorf(proto.CodeNotFound, "x"), statusNotFound},
		"not executable": {proto.Errorf(proto.CodeNotExecutable, "x"), statusNotExecutable},
		"busy":           {proto.Errorf(proto.CodeBusy, "x"), statusFailed},
		"guest gone":     {&supervisor.GuestError{Cause: "x"}, statusFailed},
		"output gone":    {&control.OutputError{Err: syscall.EPIPE}, 128 + 13},
		"output full":    {&control.OutputError{Err: syscall.ENOSPC}, statusFailed},
		"other":          {errors.New("x"), statusFailed},
	} {
		s := &session{ctx: t.Context()}
		if got := s.explain(fmt.Errorf("wrapped: %w", tt.err), runFlags{}); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
	for cause, want := range map[error]exitStatus{interrupted(syscall.SIGTERM): 128 + 15, errTimeout: statusTimeout} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if got := (&session{ctx: ctx}).explain(ctx.Err(), runFlags{}); got != want {
			t.Errorf("%v: %v, want %v", cause, got, want)
		}
	}
}

func TestRunGuestPanics(t *testing.T) {
	inVM(t)
	r := warder(t, nil, "run", "--", "sh", "-c", "echo c > /proc/sysrq-trigger")
	r.check(t, statusFailed, "", "the guest kernel panicked: sysrq triggered crash")
}

func TestRunGuestOutOfMemory(t *testing.T) {
	inVM(t)
	r := warder(t, nil, "run", "--memory", "192M", "--", "sh", "-c", "x=$(cat /dev/zero)")
	r.check(t, 137, "", "the guest ran out of memory")
}

// TestRunDisks has a read-only disk and a file as memory, and a disk whose image is
// on a file system that fills up.
func TestRunDisks(t *testing.T) {
	inVM(t)
	readOnly := filepath.Join(t.TempDir(), "disk")
	content := bytes.Repeat([]byte("warder"), 1<<20)
	if err := os.WriteFile(readOnly, content, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1M"); err != nil {
		testkvm.Missing(t, "a file system of a size of its own: "+err.Error())
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	full := filepath.Join(dir, "disk")
	if err := os.WriteFile(full, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(full, 16<<20); err != nil {
		t.Fatal(err)
	}
	r := warder(t, nil, "run", "--disk", readOnly+":ro", "--disk", full, "--pmem", readOnly, "--", "sh", "-c", `
		head -c 6 /dev/vda
		dd if=/dev/zero of=/dev/vda bs=4096 count=1 2>/dev/null || echo refused
		head -c 6 /dev/pmem0
		dd if=/dev/zero of=/dev/pmem0 bs=4096 count=1 2>/dev/null || echo refused
		dd if=/dev/zero of=/dev/vdb bs=65536 count=64 2>/dev/null; sync
		dd if=/dev/vdb of=/dev/null bs=4096 count=1 2>/dev/null && echo alive`)
	r.check(t, 0, "warderrefused\nwarderrefused\nalive\n", "no space left on device")
	if b, err := os.ReadFile(readOnly); err != nil || !bytes.Equal(b, content) {
		t.Errorf("the read-only image was changed (error %v)", err)
	}
}

func TestRunKernelOfZeros(t *testing.T) {
	inVM(t)
	kernel := filepath.Join(t.TempDir(), "kernel")
	if err := os.WriteFile(kernel, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	warder(t, nil, "run", "--kernel", kernel, "--", "true").check(t, statusFailed, "", kernel, "zero")
}

func TestRunTimeout(t *testing.T) {
	inVM(t)
	// The time includes the boot: long enough for that would be too long here.
	r := warder(t, nil, "run", "--timeout", "100ms", "--", "sleep", "1000")
	r.check(t, statusTimeout, "", "killed after its timeout of 100ms")
}

// TestRunInterrupted sends the signals of an impatient person.
func TestRunInterrupted(t *testing.T) {
	inVM(t)
	for name, tt := range map[string]struct {
		signals []syscall.Signal
		script  string
		want    int
	}{
		"the command ends by the first":       {[]syscall.Signal{syscall.SIGTERM}, "echo ready; sleep 1000", 128 + 15},
		"the second ends what ignores it all": {[]syscall.Signal{syscall.SIGHUP, syscall.SIGHUP}, "echo ready; nohup sleep 1000", 128 + 1},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := warderCommand(t, "run", "--", "sh", "-c", tt.script)
			cmd.Stderr = os.Stderr
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
				t.Fatal(err)
			}
			seenFromOutside(t, cmd.Process.Pid, tt.script)
			for _, s := range tt.signals {
				if err := cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			io.Copy(io.Discard, stdout)
			if status := finish(t, cmd, cmd.Wait()); status != tt.want {
				t.Errorf("status %d, want %d", status, tt.want)
			}
		})
	}
}

// TestRunOutputGone is warder run -- yes | head -n 1.
func TestRunOutputGone(t *testing.T) {
	inVM(t)
	cmd := warderCommand(t, "run", "--", "yes")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if _, err := io.ReadFull(r, make([]byte, 2)); err != nil {
		status := finish(t, cmd, cmd.Wait())
		t.Fatalf("%v; status %d, stderr %q", err, status, stderr.String())
	}
	r.Close()
	if status := finish(t, cmd, cmd.Wait()); status != 128+int(syscall.SIGPIPE) || stderr.Len() > 0 {
		t.Errorf("status %d, stderr %q", status, stderr.String())
	}
}
