package main

import (
	"bufio"
	"debug/elf"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"warder/internal/testgdb"
	"warder/secmon/event"
)

func TestTraceUsage(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no command":       {nil, "give it after --"},
		"two things":       {[]string{"--vm", "a", "--", "true"}, "leave the command out"},
		"no such call":     {[]string{"-e", "opnat", "--", "true"}, `"opnat"`},
		"no such class":    {[]string{"-e", "%none", "--", "true"}, "%network"},
		"not trace":        {[]string{"-e", "signal=SIGINT", "--", "true"}, "only trace="},
		"much":             {[]string{"-s", "1000000", "--", "true"}, "65536"},
		"a process":        {[]string{"-p", "1", "--", "true"}, "--vm"},
		"no such format":   {[]string{"-o", "xml", "--", "true"}, "text or json"},
		"no such VM":       {[]string{"--vm", "absent"}, "warder ls"},
		"what run refuses": {[]string{"--memory", "much", "--", "true"}, "as in 512M"},
	} {
		cmd := warderCommand(t, append([]string{"trace"}, tt.args...)...)
		cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+t.TempDir())
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if status := finish(t, cmd, cmd.Run()); status == 0 || !strings.Contains(stderr.String(), tt.want) {
			t.Errorf("%s: status %d, stderr %q; want %q", name, status, stderr.String(), tt.want)
		}
	}
}

func TestTrace(t *testing.T) {
	inVM(t)
	r := warder(t, nil, "trace", "-f", "-e", "openat,execve,exit_group", "--", "sh", "-c", "cat /proc/sys/kernel/hostname; exit 3")
	if r.status != 3 || r.stdout != "vm\n" {
		t.Errorf("status %d, output %q", r.status, r.stdout)
	}
	for _, want := range []string{`execve("`, `"/proc/sys/kernel/hostname", O_RDONLY`, ") = 3", "exit_group(3)", "+++ exited with 3 +++"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("the trace lacks %q:\n%s", want, r.stderr)
		}
	}
	if strings.Contains(r.stderr, "read(") {
		t.Errorf("the trace has what nobody asked for:\n%s", r.stderr)
	}
}

// TestTraceJSON has no more on standard error than events.
func TestTraceJSON(t *testing.T) {
	inVM(t)
	// Any thread of a Go program's may open the file.
	r := warder(t, nil, "trace", "-f", "-e", "openat", "-o", "json", "--", "cat", "/proc/sys/kernel/hostname")
	found := false
	for line := range strings.Lines(r.stderr) {
		var e event.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		found = found || e.Call.Path == "/proc/sys/kernel/hostname"
	}
	if r.status != 0 || !found {
		t.Errorf("status %d, the file is not in\n%s", r.status, r.stderr)
	}
}

// TestTraceRunningVM traces and debugs a VM of another process.
func TestTraceRunningVM(t *testing.T) {
	inVM(t)
	vm := warderCommand(t, "run", "-i", "--name", "traced", "--", "sh", "-c", "echo up; while read line; do cat /proc/sys/kernel/hostname; done")
	in, out := talk(t, vm)
	ended := false
	defer func() { // a VM that has ended by itself has said why
		if in.Close(); !ended {
			t.Logf("the VM that was traced: %v", vm.Wait())
		}
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "up" {
		t.Fatalf("the VM said %q: %v", lines.Text(), lines.Err())
	}
	trace := warderCommand(t, "trace", "--vm", "traced", "-e", "openat")
	seen, err := trace.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	trace.Stderr = os.Stderr
	if err := trace.Start(); err != nil {
		t.Fatal(err)
	}
	// Whatever the guest opens before the trace is on is not seen: it is asked to
	// until it is.
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for {
			if _, err := io.WriteString(in, "again\n"); err != nil || !lines.Scan() {
				return
			}
		}
	}()
	calls := bufio.NewScanner(seen)
	for calls.Scan() && !strings.Contains(calls.Text(), `"/proc/sys/kernel/hostname", O_RDONLY`) {
	}
	if err := calls.Err(); err != nil || !strings.HasPrefix(calls.Text(), "[pid ") || !strings.Contains(calls.Text(), "openat(") {
		t.Errorf("the trace said %q: %v", calls.Text(), err)
	}
	if err := trace.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, seen)
	if status := finish(t, trace, trace.Wait()); status != 0 {
		t.Errorf("a trace that was interrupted: status %d", status)
	}
	debugRunning(t, "traced")
	in.Close()
	<-stop
	ended = true
	if err := vm.Wait(); err != nil {
		t.Errorf("the VM that was traced: %v", err)
	}
}

// debugRunning debugs a VM through warder inspect.
func debugRunning(t *testing.T, name string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "symbols")
	if r := warder(t, nil, "inspect", name, "symbols", file); r.status != 0 {
		t.Fatalf("status %d: %s", r.status, r.stderr)
	}
	symbols, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer symbols.Close()
	all, err := symbols.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(s elf.Symbol) bool { return s.Name == "linux_banner" })
	if i < 0 {
		t.Fatal("the file lacks linux_banner")
	}
	inspect := warderCommand(t, "inspect", name, "gdb", "127.0.0.1:0")
	out, err := inspect.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	inspect.Stderr = os.Stderr
	if err := inspect.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	if !said.Scan() {
		t.Fatal("warder inspect does not say where it listens")
	}
	_, addr, _ := strings.Cut(said.Text(), "target remote ")
	for found := 0; found < 2; { // the guest goes on in between
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		g := testgdb.New(t, conn)
		g.Ask("?", "T02thread:1;")
		switch got := g.Call("qXfer:exec-file:read::0,100"); {
		case strings.HasPrefix(got, "l/"):
			found++
		case got == "E16": // it stands in a program, which has no map of the kernel
			g.Ask("D", "OK")
			conn.Close()
			continue
		default:
			t.Errorf("the executable is %q", got)
			found++
		}
		if got := g.Call("vCont;s:1"); got != "T05thread:1;" {
			t.Errorf("a step was answered %q", got)
		}
		if got := g.Call(fmt.Sprintf("m%x,d", all[i].Value)); got != hex.EncodeToString([]byte("Linux version")) {
			t.Errorf("linux_banner is %q", got)
		}
		g.Ask("D", "OK")
		if err := g.Closed(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) { // its last acknowledgement is not read
			t.Errorf("after a detach: %v", err)
		}
	}
	if err := inspect.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if status := finish(t, inspect, inspect.Wait()); status != 0 {
		t.Errorf("status %d", status)
	}
}
