package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"warder/secmon/event"
)

// A line says what an event of any kind is about, and nothing in it can steer a
// terminal.
func TestActs(t *testing.T) {
	for want, e := range map[string]event.Event{
		"a        task exec  /bin/sh  \"sh -c\"  (sh, pid 9, uid 0)": {Kind: event.Task, Action: event.Ran, Process: event.Process{PID: 9, Name: "sh", Exe: "/bin/sh", Args: "sh\x00-c\x00"}},
		"a        flow start  10.0.0.1:1 -> 10.0.0.2:443  example.org": {Kind: event.Flow, Action: event.Began, Net: &event.Net{
			Source: netip.MustParseAddrPort("10.0.0.1:1"), Destination: netip.MustParseAddrPort("10.0.0.2:443"), Host: "example.org"}},
		`a        packet data  10.0.0.1:1 -> 10.0.0.2:443  "\x1bx"`: {Kind: event.Packet, Action: "data", Net: &event.Net{
			Source: netip.MustParseAddrPort("10.0.0.1:1"), Destination: netip.MustParseAddrPort("10.0.0.2:443"), Payload: []byte("\x1bx")}},
		`a        log  sshd  "bad\x1b[2J line"`: {Kind: event.LogLine, Log: &event.Log{Program: "sshd", Text: "bad\x1b[2J line"}},
		"a        file deletion  /x":            {Kind: event.FileAct, Action: event.Removed, Call: event.Call{File: event.File{Path: "/x"}}},
		`a        file share-write  /srv/x  3 bytes at 7  "\x1bx\n"  (pid 9, uid 5)`: {Kind: event.FileAct, Action: event.ShareWrite, Process: event.Process{PID: 9, UID: 5},
			Call: event.Call{File: event.File{Path: "/srv/x"}, Offset: 7, Size: 3, Payload: []byte("\x1bx\n")}},
		"a        flow start  vsock 3:1000 -> 2:80": {Kind: event.Flow, Action: event.Began, Net: &event.Net{Transport: event.Vsock, Vsock: [2]event.VsockEnd{{CID: 3, Port: 1000}, {CID: 2, Port: 80}}}},
		"a        execve   /x":                      {Kind: event.Syscall, Call: event.Call{Name: "execve", Path: "/x", Missing: event.MissingProcess}},
	} {
		e.VM = "a"
		if got := act(e); !strings.HasSuffix(strings.SplitN(got, "  not readable", 2)[0], "  "+want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAlertSaysWhatWasDone(t *testing.T) {
	var out bytes.Buffer
	p := &printer{w: &out}
	p.alert(event.Event{Kind: event.Alert, VM: "c", Finding: &event.Finding{
		RuleTitle: "t", Level: "high", VMs: []string{"a", "c"}, Response: "block,isolate,destroy",
		Acts: []event.Event{{Kind: event.Syscall, VM: "c", Call: event.Call{Name: "execve", Denied: 1}}},
		Taken: []event.Taken{
			{Response: "block", VM: "c", Detail: "execve failed with EPERM"}, {Response: "isolate", VM: "a", Detail: "the link is down"},
			{Response: "isolate", VM: "c", Failed: "it is gone\x1b"}, {Response: "destroy", VM: "c"},
		},
	}})
	for _, want := range []string{
		"response  c's execve was refused with EPERM before it took effect\n", "response  isolate of a: the link is down\n",
		"response  isolate of c FAILED: it is gone?\n", "response: destroy of c\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}
