package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"warder/internal/oracle"
	"warder/internal/testkvm"
	"warder/lab"
)

// TestGDB has Debian's GDB debug a guest kernel of either architecture in the
// lab, by the symbols that it gets from warder, from its first instruction; then
// the guest goes on and does its command.
func TestGDB(t *testing.T) {
	testkvm.OnHost(t, "GDB debugs a guest in the lab")
	if testing.Short() {
		t.Skip("boots machines")
	}
	gdb := oracle.Command(t, "gdb-multiarch", "gdb-multiarch")
	dir := t.TempDir()
	for _, arch := range []string{"amd64", "arm64"} {
		name := filepath.Join(dir, "warder-"+arch)
		build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", name, ".")
		build.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	handler := map[string]string{"amd64": "__x64_sys_openat", "arm64": "__arm64_sys_openat"}
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			if _, err := lab.Prepare(ctx, lab.Config{Arch: arch, Guests: true, Init: filepath.Join(dir, "warder-"+arch)}); err != nil {
				oracle.Missing(t, "an emulator and a kernel, which make deps gets: "+err.Error())
			}
			guest := exec.CommandContext(ctx, filepath.Join(dir, "warder-"+runtime.GOARCH), "run", "--lab="+arch, "--gdb", "stdio", "--gdb-wait", "--",
				"sh", "-c", "echo the guest went on")
			var said bytes.Buffer
			guest.Stderr = &said
			addr, ended := serveProcess(t, guest)
			if err := guest.Start(); err != nil {
				t.Fatal(err)
			}
			h := handler[arch]
			script := exec.CommandContext(ctx, gdb, "-nx", "-batch",
				"-ex", "set remotetimeout 200", "-ex", "set width 0", "-ex", "target remote "+addr,
				"-ex", "info threads",
				"-ex", "break start_kernel", "-ex", "continue", "-ex", "delete",
				"-ex", "break "+h, "-ex", "continue",
				"-ex", "info symbol $pc", "-ex", "delete",
				"-ex", "stepi", "-ex", "info symbol $pc",
				"-ex", "watch *(unsigned long *) &jiffies", "-ex", "continue", "-ex", "delete",
				"-ex", "detach")
			out, err := script.CombinedOutput()
			if err != nil {
				t.Errorf("gdb: %v", err)
			}
			for _, want := range []string{
				"vCPU 0", "in start_kernel ()", "in " + h + " ()", h + " in section", h + " +", "Hardware watchpoint", "New value = ", "detached]",
			} {
				if !strings.Contains(string(out), want) {
					t.Errorf("gdb does not say %q", want)
				}
			}
			if err := <-ended; err != nil {
				t.Errorf("the guest's command: %v", err)
			}
			if !strings.Contains(said.String(), "the guest went on") {
				t.Error("the guest's command did not run")
			}
			if t.Failed() {
				t.Logf("gdb:\n%s\nwarder:\n%s", out, &said)
			}
		})
	}
}

// serveProcess gives an address at which the standard input and output of a
// process that is about to start can be had once, and how it ends.
func serveProcess(t *testing.T, cmd *exec.Cmd) (addr string, ended <-chan error) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		l.Close()
		if err != nil {
			done <- err
			return
		}
		go func() { // the debugger goes first, or is told that the process has
			_, _ = io.Copy(in, c)
			in.Close()
		}()
		_, _ = io.Copy(c, out)
		c.Close()
		done <- cmd.Wait()
	}()
	return l.Addr().String(), done
}
