package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warder/guestinit/agent"
	"warder/guestinit/process"
	"warder/guestinit/proto"
	"warder/guestinit/system"
)

// fakeSystem is a guest around the agent that is not a machine of its own.
type fakeSystem struct {
	setup    chan proto.Setup
	poweroff chan time.Duration
	err      error
}

func (s *fakeSystem) Setup(p proto.Setup) error { s.setup <- p; return s.err }
func (s *fakeSystem) Info() (proto.Info, error) { return system.Info() }
func (s *fakeSystem) SetCPUs(n int) (proto.CPUs, error) {
	return proto.CPUs{Present: 4, Online: n}, s.err
}
func (s *fakeSystem) PowerOff(reason string, grace time.Duration) { s.poweroff <- grace }

// table reaps all children of this process, so there is one; no test here may
// use os/exec.
var table *process.Table

func TestMain(m *testing.M) {
	ctx, cancel := context.WithCancel(context.Background())
	table = process.NewTable(ctx, "")
	code := m.Run()
	cancel()
	os.Exit(code)
}

// connect gives the two ends of a control connection over a Unix socket.
func connect(t *testing.T) (*Guest, *fakeSystem) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "port")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	sys := &fakeSystem{setup: make(chan proto.Setup, 1), poweroff: make(chan time.Duration, 1)}
	dial := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	served := make(chan error, 1)
	go func() {
		a, err := agent.Connect(t.Context(), dial, proto.Hello{Kernel: "6.12", Arch: "test"}, sys, table)
		if err == nil {
			err = a.Serve(context.Background())
		}
		served <- err
	}()
	g, err := Accept(t.Context(), l, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		g.Close()
		if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("guest's end: %v", err)
		}
	})
	return g, sys
}

func sh(script string) proto.Command { return proto.Command{Args: []string{"sh", "-c", script}} }

func TestRun(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name           string
		cmd            proto.Command
		in             io.Reader
		want           proto.Status
		stdout, stderr string
	}{
		{name: "streams apart", cmd: sh("echo out; echo err >&2"), stdout: "out\n", stderr: "err\n"},
		{name: "exit status", cmd: sh("exit 7"), want: proto.Status{Code: 7}},
		{name: "death by signal", cmd: sh("kill -TERM $$"), want: proto.Status{Signal: 15}},
		{name: "stdin", cmd: proto.Command{Args: []string{"cat"}}, in: strings.NewReader("hi\n"), stdout: "hi\n"},
		{name: "no stdin is empty", cmd: proto.Command{Args: []string{"cat"}}},
		{name: "stdin left unread", cmd: sh("exit 3"), in: strings.NewReader(strings.Repeat("x", 1<<20)), want: proto.Status{Code: 3}},
		{name: "environment", cmd: proto.Command{Args: []string{"sh", "-c", "echo $A $HOME"}, Env: []string{"A=1", "A=2", "HOME=/x"}}, stdout: "2 /x\n"},
		{name: "directory", cmd: proto.Command{Args: []string{"pwd"}, Dir: dir}, stdout: dir + "\n"},
		{name: "argument with spaces", cmd: proto.Command{Args: []string{"printf", "%s|", "a b", ""}}, stdout: "a b||"},
		{name: "a child left behind does not hold the streams", cmd: sh("echo before; sleep 600 & exit 4"), stdout: "before\n", want: proto.Status{Code: 4}},
		{name: "much output", cmd: sh("head -c 3000000 /dev/zero | tr '\\0' y"), stdout: strings.Repeat("y", 3000000)},
	}
	if os.Getuid() == 0 {
		tests = append(tests, []struct {
			name           string
			cmd            proto.Command
			in             io.Reader
			want           proto.Status
			stdout, stderr string
		}{
			{name: "user by name", cmd: proto.Command{Args: []string{"id", "-un"}, User: "nobody", Dir: "/"}, stdout: "nobody\n"},
			{name: "user and group by number", cmd: proto.Command{Args: []string{"sh", "-c", "id -u; id -g; id -G"}, User: "12345:54321", Dir: "/"}, stdout: "12345\n54321\n54321\n"},
			{name: "own stdout opened again", cmd: proto.Command{Args: []string{"sh", "-c", "echo x > /dev/stdout"}, User: "nobody", Dir: "/"}, stdout: "x\n"},
		}...)
	}
	g, _ := connect(t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			got, err := g.Run(t.Context(), tt.cmd, Stdio{tt.in, &stdout, &stderr})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("status (-want +got):\n%s", diff)
			}
			if stdout.String() != tt.stdout {
				t.Errorf("stdout %.80q, want %.80q", stdout.String(), tt.stdout)
			}
			if stderr.String() != tt.stderr {
				t.Errorf("stderr %.80q, want %.80q", stderr.String(), tt.stderr)
			}
		})
	}
}

func TestRunFails(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("not a program"), 0o644); err != nil {
		t.Fatal(err)
	}
	alien := filepath.Join(dir, "alien")
	if err := os.WriteFile(alien, []byte("not a program"), 0o755); err != nil {
		t.Fatal(err)
	}
	g, _ := connect(t)
	for name, tt := range map[string]struct {
		cmd  proto.Command
		want proto.Code
	}{
		"nothing":            {proto.Command{}, proto.CodeBadRequest},
		"not in PATH":        {proto.Command{Args: []string{"no-such-program"}}, proto.CodeNotFound},
		"no such file":       {proto.Command{Args: []string{"/no/such/program"}}, proto.CodeNotFound},
		"not executable":     {proto.Command{Args: []string{text}}, proto.CodeNotExecutable},
		"not in this format": {proto.Command{Args: []string{alien}}, proto.CodeNotExecutable},
		"a directory":        {proto.Command{Args: []string{dir}}, proto.CodeNotExecutable},
		"no such directory":  {proto.Command{Args: []string{"true"}, Dir: "/no/such"}, proto.CodeNotExecutable},
		"no such user":       {proto.Command{Args: []string{"true"}, User: "no-such-user"}, proto.CodeNotExecutable},
		"a zero byte":        {proto.Command{Args: []string{"true", "a\x00b"}}, proto.CodeBadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			_, err := g.Run(t.Context(), tt.cmd, Stdio{strings.NewReader("x"), &out, &out})
			e, ok := errors.AsType[*proto.Error](err)
			if !ok || e.Code != tt.want {
				t.Errorf("error %v, want code %s", err, tt.want)
			}
		})
	}
}

func TestTerminal(t *testing.T) {
	g, _ := connect(t)
	var out bytes.Buffer
	cmd := sh("test -t 0 -a -t 1 -a -t 2 && stty size && echo $TERM && read line && echo got $line")
	cmd.TTY, cmd.Cols, cmd.Rows = true, 101, 37
	status, err := g.Run(t.Context(), cmd, Stdio{In: strings.NewReader("hello\n"), Out: &out})
	if err != nil || status != (proto.Status{}) {
		t.Fatalf("status %+v, error %v; output %q", status, err, out.String())
	}
	for _, want := range []string{"37 101\r\n", "xterm\r\n", "got hello\r\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output %q lacks %q", out.String(), want)
		}
	}
}

// lineReader gives what a command prints line by line.
func lines(t *testing.T) (io.Writer, func() string) {
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close() })
	ch := make(chan string, 64)
	go func() {
		defer close(ch)
		var line []byte
		b := make([]byte, 1)
		for {
			if _, err := r.Read(b); err != nil {
				return
			}
			if line = append(line, b[0]); b[0] == '\n' {
				ch <- string(line)
				line = nil
			}
		}
	}()
	return w, func() string {
		t.Helper()
		select {
		case s := <-ch:
			return strings.TrimRight(s, "\r\n")
		case <-time.After(20 * time.Second):
			t.Fatal("the command printed nothing")
			return ""
		}
	}
}

func TestResize(t *testing.T) {
	g, _ := connect(t)
	out, line := lines(t)
	cmd := sh("trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.05; done")
	cmd.TTY = true
	p, err := g.Start(t.Context(), cmd, Stdio{Out: out})
	if err != nil {
		t.Fatal(err)
	}
	if s := line(); s != "ready" {
		t.Fatalf("printed %q", s)
	}
	if err := p.Resize(t.Context(), 99, 44); err != nil {
		t.Fatal(err)
	}
	if s := line(); s != "44 99" {
		t.Errorf("size %q, want 44 99", s)
	}
	if status, err := p.Wait(t.Context()); err != nil || status.Code != 5 {
		t.Errorf("status %+v, error %v", status, err)
	}
}

func TestInterruptOnTerminal(t *testing.T) {
	g, _ := connect(t)
	out, line := lines(t)
	in, keys := io.Pipe()
	cmd := sh("trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.05; done")
	cmd.TTY = true
	p, err := g.Start(t.Context(), cmd, Stdio{In: in, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	line()
	keys.Write([]byte{3})
	if s := line(); !strings.HasSuffix(s, "caught") {
		t.Errorf("printed %q", s)
	}
	if status, err := p.Wait(t.Context()); err != nil || status.Code != 9 {
		t.Errorf("status %+v, error %v", status, err)
	}
}

func TestSignal(t *testing.T) {
	g, _ := connect(t)
	out, line := lines(t)
	p, err := g.Start(t.Context(), sh("trap 'exit 21' USR1; echo ready; while :; do sleep 0.05; done"), Stdio{Out: out})
	if err != nil {
		t.Fatal(err)
	}
	line()
	if err := p.Signal(t.Context(), int(syscall.SIGUSR1)); err != nil {
		t.Fatal(err)
	}
	status, err := p.Wait(t.Context())
	if err != nil || status.Code != 21 {
		t.Errorf("status %+v, error %v", status, err)
	}
	if err := p.Signal(t.Context(), int(syscall.SIGUSR1)); err == nil {
		t.Error("a signal to a command that has ended succeeded")
	}
}

// TestManyAtOnce runs commands that must not wait for each other: each reads
// what the next one writes.
func TestManyAtOnce(t *testing.T) {
	g, _ := connect(t)
	const n = 20
	var in io.Reader = strings.NewReader("through all of them")
	var last bytes.Buffer
	type result struct {
		status proto.Status
		err    error
	}
	results := make(chan result, n)
	for i := range n {
		from := in
		var to io.Writer = &last
		var done io.Closer
		if i < n-1 {
			r, w := io.Pipe()
			in, to, done = r, w, w
		}
		go func() {
			s, err := g.Run(t.Context(), proto.Command{Args: []string{"cat"}}, Stdio{In: from, Out: to})
			if done != nil {
				done.Close()
			}
			results <- result{s, err}
		}()
	}
	for range n {
		if r := <-results; r.err != nil || r.status != (proto.Status{}) {
			t.Errorf("status %+v, error %v", r.status, r.err)
		}
	}
	if last.String() != "through all of them" {
		t.Errorf("out came %q", last.String())
	}
}

func TestCancelKills(t *testing.T) {
	g, _ := connect(t)
	ctx, cancel := context.WithCancel(t.Context())
	out, line := lines(t)
	p, err := g.Start(ctx, sh("echo ready; exec sleep 600"), Stdio{Out: out})
	if err != nil {
		t.Fatal(err)
	}
	line()
	cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	select {
	case <-p.Done():
	case <-time.After(20 * time.Second):
		t.Error("the command lives on")
	}
}

// TestOutputGone closes the host's side of the output, as a broken pipe does.
func TestOutputGone(t *testing.T) {
	g, _ := connect(t)
	r, w := io.Pipe()
	r.CloseWithError(syscall.EPIPE)
	status, err := g.Run(t.Context(), proto.Command{Args: []string{"yes"}}, Stdio{Out: w})
	if _, ok := errors.AsType[*OutputError](err); !ok {
		t.Errorf("error %v, want an OutputError", err)
	}
	if status.Signal != int(syscall.SIGPIPE) && status.Code != 1 {
		t.Errorf("status %+v, want a death by SIGPIPE", status)
	}
}

func TestSetupInfoPowerOff(t *testing.T) {
	g, sys := connect(t)
	if got := g.Hello(); got.Kernel != "6.12" || got.Arch != "test" {
		t.Errorf("hello %+v", got)
	}
	want := proto.Setup{Hostname: "a", Entropy: []byte{1, 2}, Mounts: []proto.Mount{{Type: "virtiofs", Source: "s", Target: "/s"}}}
	if err := g.Setup(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, <-sys.setup); diff != "" {
		t.Errorf("setup (-want +got):\n%s", diff)
	}
	sys.err = errors.New("mount s on /s: no such device")
	if err := g.Setup(t.Context(), want); err == nil || err.Error() != sys.err.Error() {
		t.Errorf("setup's error %v, want %v", err, sys.err)
	}
	info, err := g.Info(t.Context())
	if err != nil || info.MemoryTotal == 0 || info.MemoryAvailable > info.MemoryTotal {
		t.Errorf("info %+v, error %v", info, err)
	}
	sys.err = nil
	if cpus, err := g.SetCPUs(t.Context(), 3); err != nil || cpus != (proto.CPUs{Present: 4, Online: 3}) {
		t.Errorf("CPUs %+v, error %v", cpus, err)
	}
	if err := g.PowerOff(t.Context(), 3*time.Second); err != nil {
		t.Fatal(err)
	}
	if grace := <-sys.poweroff; grace != 3*time.Second {
		t.Errorf("grace %v", grace)
	}
}
