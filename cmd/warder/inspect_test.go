package main

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"warder/secmon/introspect"
)

// Whatever a guest names its things, a terminal gets one line of text.
func TestInspectRowsAreText(t *testing.T) {
	evil := "\x1b[2J\r\n\u202eevil\tx"
	for name, row := range map[string]string{
		"ps":       processRow(introspect.ProcessInfo{Comm: evil, Args: []string{evil}, Cgroup: evil}),
		"modules":  moduleRow(introspect.ModuleInfo{Name: evil, UsedBy: []string{evil}}),
		"files":    fileRow(introspect.FileInfo{Name: evil}),
		"maps":     mapRow(introspect.MapInfo{Name: evil}),
		"sockets":  socketRow(introspect.SocketInfo{Local: evil, Owners: []introspect.Owner{{Comm: evil}}}),
		"mounts":   mountRow(introspect.MountInfo{Target: evil, Source: evil, FS: evil}),
		"syscalls": syscallRow(introspect.SyscallInfo{Symbol: evil, Name: evil}),
		"vectors":  vectorRow(introspect.VectorInfo{Symbol: evil}),
		"lsm":      hookRow(introspect.HookInfo{Hook: evil, LSM: evil}),
		"kallsyms": symbolRow(introspect.SymbolInfo{Name: evil, Module: evil}),
	} {
		if strings.ContainsAny(row, "\x1b\r\n\u202e") || !strings.Contains(row, "evil x") {
			t.Errorf("%s: %q", name, row)
		}
	}
	if row := processRow(introspect.ProcessInfo{PID: 7, Comm: "ghost", Hidden: true}); !strings.Contains(row, "HIDDEN ghost") {
		t.Errorf("a hidden process: %q", row)
	}
}

func TestInspectCompletes(t *testing.T) {
	cmd := inspectCommand()
	cmd.SetContext(t.Context())
	words, _ := completeInspect(cmd, []string{"web"}, "")
	if !slices.Contains(words, "ps\tprocesses") {
		t.Errorf("%q", words)
	}
	if _, how := completeInspect(cmd, []string{"web", "dump"}, ""); how != cobra.ShellCompDirectiveDefault {
		t.Errorf("a file is completed by %v", how)
	}
}

func TestInspectUsage(t *testing.T) {
	for says, args := range map[string][]string{
		"what of web should be shown": {"web"},
		`there is no "things"`:        {"web", "things"},
		"no VM nobody":                {"nobody", "ps"},
		"--output yaml":               {"web", "ps", "-o", "yaml"},
		"to inspect":                  {"web", ""},
	} {
		cmd := inspectCommand()
		cmd.SetArgs(args)
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		cmd.SetOut(new(bytes.Buffer))
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", args, err, says)
		}
	}
	v := &inspection{inspectFlags: &inspectFlags{}, out: new(bytes.Buffer)}
	for says, run := range map[string]func(context.Context, *inspection) error{
		"read from where": readMemory, "write what": writeMemory, "which structure": structure, "dump to which file": dump,
	} {
		if err := run(t.Context(), v); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
}

// seenFromOutside has a process of ours with the VM vm listed, and a command of
// its guest shown.
func seenFromOutside(t *testing.T, pid int, command string) {
	t.Helper()
	if r := warder(t, nil, "ls"); r.status != 0 || !regexp.MustCompile(fmt.Sprintf(`(?m)^vm +%d +1 `, pid)).MatchString(r.stdout) {
		t.Errorf("warder ls: %+v", r)
	}
	r := warder(t, nil, "inspect", fmt.Sprintf("vm@%d", pid), "ps")
	if r.status != 0 || !strings.Contains(r.stdout, "sh -c "+command) {
		t.Errorf("warder inspect ps: %+v", r)
	}
}
