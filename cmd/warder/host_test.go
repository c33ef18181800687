package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/secmon/event"
	"warder/supervisor"
	"warder/supervisor/declaration"
	"warder/vmm"
)

func TestHostConfig(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "common"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "host.yaml")
	load := func(src string) (hostConfig, error) {
		t.Helper()
		if err := os.WriteFile(file, []byte(src), 0o644); err != nil {
			t.Fatal(err)
		}
		return hostFlags{config: file}.load()
	}
	got, err := load(`
kernel: vmlinux
cgroup: /sys/fs/cgroup/warder
overcommit: true
limits: {vcpus: 8, memory: 1G}
vms:
  - name: a
    cpus: 2
    memory: 512M:1G
    watchdog: kill
    cpu_weight: 400
    cpu_max: 1.5
    disks: [data.img]
    shares: ["common:/mnt/share:ro"]
    pmems: [/root.erofs, "own:rw"]
    ports: ["log=unix:log.sock"]
    command: [sh, -c, "echo hi"]
  - name: b
`)
	if err != nil {
		t.Fatal(err)
	}
	want := hostConfig{
		Cgroup: "/sys/fs/cgroup/warder", Overcommit: true, base: dir,
		Limits: limitsConfig{VCPUs: 8, Memory: "1G", memory: 1 << 30, headroom: usualHeadroom},
		Kernel: kernelName(filepath.Join(dir, "vmlinux")), Patterns: patternsConfig{every: updateEvery},
		VMs: []hostVM{
			{
				Service: declaration.Service{
					Name: "a", CPUs: 2, Memory: declaration.Memory{Start: 512 << 20, Most: 1 << 30}, Watchdog: "kill", CPUWeight: 400, CPUMax: 1.5, Command: []string{"sh", "-c", "echo hi"},
					Attachments: declaration.Attachments{
						Disks: []string{"data.img"}, Shares: []string{"common:/mnt/share:ro"},
						Pmems: []string{"/root.erofs", "own:rw"}, Ports: []string{"log=unix:log.sock"},
					},
				},
				spec: supervisor.Spec{
					Disks:  []vmm.Disk{{Path: filepath.Join(dir, "data.img")}},
					Shares: []supervisor.Share{{Host: filepath.Join(dir, "common"), Guest: "/mnt/share", ReadOnly: true}},
					Pmems:  []vmm.Pmem{{Path: "/root.erofs"}, {Path: filepath.Join(dir, "own"), Writable: true}},
					Ports:  []vmm.Port{{Name: "log", Socket: filepath.Join(dir, "log.sock")}},
				},
			},
			{Service: declaration.Service{Name: "b"}},
		},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(hostConfig{}, hostVM{}, patternsConfig{}, limitsConfig{}, supervisorConfig{})); d != "" {
		t.Errorf("configuration (-want +got):\n%s", d)
	}
	for src, says := range map[string]string{
		"":                                                 "no VMs",
		"vms: []":                                          "no VMs",
		"vms:\n  - name: A":                                "letters a to z",
		"vms:\n  - name: a\n  - name: a":                   "two of the name",
		"vms:\n  - name: a\n    memory: lots":              "as in 512M",
		"vms:\n  - name: a\n    cpus: -1":                  "give at most",
		"vms:\n  - name: a\n    colour: red":               "colour",
		"vms:\n  - name: a\n    shares: [nowhere]":         "HOST:GUEST",
		"vms:\n  - name: a\n    shares: [none:/x]":         "no such file",
		"vms:\n  - name: a\n    command: {a: b}":           "",
		"limits: {memory: much}\nvms: [{name: a}]":         "limits.memory",
		"limits: {vms: -1}\nvms: [{name: a}]":              "above 0",
		"machines:\n  - name: a":                           "machines",
		"services:\n  - name: a\n  - name: a":              "two of the name",
		"vms:\n  - name: a\n    restart: {policy: always}": "listed under services",
		"vms:\n  - name: a\n    pmems: [\":rw\"]":          "vm a: --pmem :rw: give PATH",
		"vms:\n  - name: a\n    ports: [log=log.sock]":     "NAME=unix:PATH",
		"vms:\n  - name: a\n    lan: {vlan: x}":            "there is no LAN",
		"vms:\n  - name: a\n    nets: [\"br:b\"]":          "tap:NAME",
		"vms:\n  - name: a\n    shares: [\"/:/x:rw:y\"]":   "HOST:GUEST",
	} {
		if _, err := load(src); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: error %v, want one that says %q", src, err, says)
		}
	}
	if _, err := (hostFlags{config: file}).inLab(t.Context(), got, nil); err == nil {
		t.Error("a port was taken into the lab")
	}
	got.VMs[0].spec.Ports = nil
	inside, err := hostFlags{config: file}.inLab(t.Context(), got, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"host.yaml", "vmlinux", "data.img", "common", "own"} {
		if !slices.Contains(inside.files, filepath.Join(dir, name)) {
			t.Errorf("for the lab %s is not among the files %q of %q", name, inside.files, inside.args)
		}
	}
	if _, err := (hostFlags{config: filepath.Join(dir, "absent")}).load(); err == nil {
		t.Error("a file that is not there was read")
	}
}

// Whatever a guest puts into names and output, a terminal gets no control
// characters but our own.
func TestPrinterQuotesWhatGuestsSay(t *testing.T) {
	evil := "\x1b]0;owned\x07\r\n\u202e"
	e := event.Event{
		Kind: event.Syscall, VM: "a", Process: event.Process{Name: evil},
		Call: event.Call{
			Name: "write", FD: 1, Size: 200, Payload: []byte(strings.Repeat(evil, 20)), Denied: 1,
			File: event.File{Path: "/mnt/" + evil, Share: "/srv"},
		},
	}
	for _, p := range []*printer{{}, {json: true}} {
		var b strings.Builder
		p.w = &b
		p.event(e)
		e.Call.File.Path, e.Call.Path = "", evil
		p.event(e)
		p.alert(event.Event{Kind: event.Alert, Finding: &event.Finding{VMs: []string{"a"}, Acts: []event.Event{e}, Matched: []string{`"x"`}}})
		p.note("a", evil)
		w := p.lines("a")
		w.Write([]byte(evil + strings.Repeat(evil, maxOutputLine)))
		w.Close()
		if !strings.Contains(b.String(), "owned") {
			t.Errorf("nothing was printed: %q", b.String())
		}
		if i := strings.IndexAny(b.String(), "\x1b\x07\r\u202e"); i >= 0 && !p.json {
			t.Errorf("a control character at %d: %q", i, b.String()[max(0, i-40):])
		}
		if p.json && strings.ContainsAny(b.String(), "\x1b\x07\r") {
			t.Errorf("a control character in JSON: %q", b.String())
		}
	}
}
