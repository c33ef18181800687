package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warder/supervisor"
	"warder/supervisor/declaration"
	"warder/vmm"
)

func TestParseShareAndDisk(t *testing.T) {
	dir := t.TempDir()
	for in, want := range map[string]supervisor.Share{
		dir + ":/x":    {Host: dir, Guest: "/x"},
		dir + ":/x:ro": {Host: dir, Guest: "/x", ReadOnly: true},
		dir + ":/x:rw": {Host: dir, Guest: "/x"},
	} {
		if got, err := parseShare(".", in); err != nil || got != want {
			t.Errorf("%s: %+v, error %v", in, got, err)
		}
	}
	for in, want := range map[string]vmm.Disk{
		"/d":      {Path: "/d"},
		"/d:ro":   {Path: "/d", ReadOnly: true},
		"/d:rw":   {Path: "/d"},
		"/a:b":    {Path: "/a:b"},
		"/a:b:ro": {Path: "/a:b", ReadOnly: true},
	} {
		if got, err := parseDisk(".", in); err != nil || got != want {
			t.Errorf("%s: %+v, error %v", in, got, err)
		}
	}
}

func TestParsePmem(t *testing.T) {
	for in, want := range map[string]vmm.Pmem{"/a": {Path: "/a"}, "/a:ro": {Path: "/a"}, "/a:rw": {Path: "/a", Writable: true}} {
		if got, err := parsePmem(".", in); err != nil || got != want {
			t.Errorf("%s: %+v, error %v", in, got, err)
		}
	}
	if got, err := parsePmem(".", ":rw"); err == nil {
		t.Errorf("no path: %+v", got)
	}
}

func TestParsePort(t *testing.T) {
	if got, err := parsePort(".", "org.x=unix:/run/a=b"); err != nil || got != (vmm.Port{Name: "org.x", Socket: "/run/a=b"}) {
		t.Errorf("%+v, error %v", got, err)
	}
	for _, bad := range []string{"", "x", "x=", "x=/run/a", "x=unix:", "=unix:/run/a", "a/b=unix:/run/a"} {
		if got, err := parsePort(".", bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
	f := runFlags{name: "vm", attached: declaration.Attachments{Ports: []string{"x=unix:/run/x"}}}
	if _, _, err := f.inLab(); err == nil {
		t.Error("a port was taken into the lab")
	}
	f = runFlags{name: "vm", gdb: "1234"}
	if _, _, err := f.inLab(); err == nil {
		t.Error("a debugger's port was taken into the lab")
	}
}

// TestInLab parses what inLab makes by the command's own flags: the same VM
// comes out.
func TestInLab(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("PASSED", "on")
	t.Setenv("TERM", "vt100")
	f := runFlags{
		name: "n", cpus: 2, cpuWeight: 50, cpuMax: 0.25, cgroup: "/sys/fs/cgroup/g", memory: declaration.Memory{Start: 256 << 20, Most: 512 << 20}, watchdog: "kill", kernel: "k", initrd: "i",
		attached: declaration.Attachments{Disks: []string{"d:ro", "e"}, Shares: []string{".:/x:ro"}, Nets: []string{"tap:t0,mtu=9000"}},
		env:      []string{"A=b c", "PASSED", "NOT_SET"}, dir: "/w", user: "u:g", timeout: time.Minute,
		console: true, tty: true, stdin: true, gdb: gdbStdio, gdbWait: true, lab: "arm64", args: []string{"sh", "-c", "exit 1"},
	}
	args, files, err := f.inLab()
	if err != nil {
		t.Fatal(err)
	}
	wantFiles := []string{filepath.Join(dir, "k"), filepath.Join(dir, "i"), filepath.Join(dir, "d"), filepath.Join(dir, "e"), dir}
	if diff := cmp.Diff(wantFiles, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if args[0] != "run" {
		t.Fatalf("args %q", args)
	}
	cmd := runCommand()
	if err := cmd.ParseFlags(args[1:]); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f.args, cmd.Flags().Args()); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{
		"name": "n", "cpus": "2", "cpu-weight": "50", "cpu-max": "0.25", "cgroup": "/sys/fs/cgroup/g", "memory": "256M:512M", "watchdog": "kill", "kernel": wantFiles[0], "initrd": wantFiles[1],
		"disk":  "[" + wantFiles[2] + ":ro," + wantFiles[3] + ":rw]",
		"net":   `["tap:t0,mtu=9000"]`,
		"share": "[" + dir + ":/x:ro]", "env": "[TERM=vt100,A=b c,PASSED=on]", "workdir": "/w", "user": "u:g",
		"timeout": "1m0s", "console": "true", "tty": "true", "interactive": "true", "gdb": "stdio", "gdb-wait": "true", "lab": "",
	} {
		if got := cmd.Flags().Lookup(name).Value.String(); got != want {
			t.Errorf("--%s %q, want %q", name, got, want)
		}
	}
}

// TestTraceInLab is TestInLab for what warder trace adds.
func TestTraceInLab(t *testing.T) {
	f := runFlags{name: "n", args: []string{"true"}, trace: &traceFlags{sets: []string{"%file", "!openat,read"}, follow: true, limit: 7, output: "json"}}
	args, _, err := f.inLab()
	if err != nil {
		t.Fatal(err)
	}
	if args[0] != "trace" {
		t.Fatalf("args %q", args)
	}
	cmd := traceCommand()
	if err := cmd.ParseFlags(args[1:]); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"trace": `[%file,"!openat,read"]`, "follow-forks": "true", "string-limit": "7", "output": "json", "name": "n"} {
		if got := cmd.Flags().Lookup(name).Value.String(); got != want {
			t.Errorf("--%s %q, want %q", name, got, want)
		}
	}
}
