package event

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func samples() []Event {
	write := Event{
		Time: 1_763_800_000_123_456_789, Seq: 7, Kind: Syscall, VM: "a", VCPU: 1,
		Process: Process{PID: 41, TID: 42, Parent: 1, UID: 1000, EUID: 0, Name: "sh"},
		Call: Call{
			Name: "write", Number: 1, Args: [6]uint64{3, 1 << 63, 9}, FD: 3,
			File:  File{Path: "/mnt/x", FS: "virtiofs", Share: "/srv/share", Inner: "/x", Device: 9, Inode: 1<<64 - 1, Size: 77},
			Flags: 0o2001, Offset: -1, Append: true, Size: 9, Payload: []byte("\x00\xffabc"),
			Missing: MissingPayload, Denied: 1,
		},
	}
	return []Event{
		write,
		{Time: 1, Seq: 1, Kind: Syscall, VM: "b", Call: Call{Name: "execve", FD: -1, Path: "./x", Missing: MissingProcess | MissingFile}},
		{Time: 2, Seq: 2, Kind: Syscall, VM: "b", Call: Call{
			Name: "connect", Number: 42, ABI: "amd64", FD: 3, Args: [6]uint64{3, 4096, 16}, Data: [6]string{1: "\x02\x00\x00\x50"}, Read: 2, Offset: -1,
			Missing: MissingData | MissingProgram, Returned: true, Result: -111, Took: 5000,
		}},
		{Time: 13, Seq: 1, Kind: Privileged, Action: "syscall-entry-moved", VM: "a", Message: "m", Access: &Access{
			Name: "LSTAR", Addr: 1, Port: true, Size: 4, Write: true, Old: 1 << 63, Value: 0, Refused: true, OldSymbol: "entry", Symbol: "x+0x1",
			Args: [4]uint64{1, 2, 3, 1<<64 - 1}, Data: []byte{0, 255}, PC: 9, PCSymbol: "p", Count: 7,
		}},
		{Time: 2, Kind: Lifecycle, VM: "c", Message: "started"},
		{Time: 3, Kind: Loss, VM: "c", Lost: 12},
		{Time: 5, Kind: Task, Action: Ran, VM: "a", Process: Process{
			PID: 9, TID: 9, Parent: 8, UID: 33, EUID: 33, Name: "sh", Exe: "/bin/sh", Args: "sh\x00-c\x00a b\x00", Dir: "/",
			User: "www-data", LoggedIn: true, ParentExe: "/usr/sbin/x", ParentArgs: "x\x00\x00",
		}},
		{Time: 6, Kind: FileAct, Action: Removed, VM: "a", Call: Call{File: File{Path: "/x", Size: -1}}},
		{Time: 6, Kind: FileAct, Action: ShareWrite, VM: "a", Process: Process{PID: 3, UID: 4, EUID: 4}, Call: Call{
			File: File{Path: "/srv/x", FS: "virtiofs", Share: "/srv", Inner: "/x", Device: 5, Inode: 6, Size: 9}, Offset: 3, Size: 5, Append: true, Payload: []byte("ab"),
		}},
		{Time: 7, Kind: Flow, Action: Began, VM: "a", Net: &Net{
			Flow: 9, Transport: Vsock, Vsock: [2]VsockEnd{{CID: 3, Port: 1 << 31}, {CID: 2, Port: 80}}, SourceVM: "a", Initiated: true, Bytes: [2]uint64{1, 2}, Packets: [2]uint64{3, 4},
		}},
		{Time: 7, Kind: Flow, Action: Began, VM: "a", Net: &Net{
			Flow: 1 << 63, Transport: "tcp", Source: netip.MustParseAddrPort("10.0.0.1:40000"), Destination: netip.MustParseAddrPort("[fe80::1]:443"),
			SourceVM: "a", Host: "example.org", VLAN: 4094, Initiated: true, Bytes: [2]uint64{1, 2}, Packets: [2]uint64{3, 4},
		}},
		{Time: 8, Kind: Packet, Action: "query", Net: &Net{
			Transport: "udp", Application: "dns", DNS: &DNS{Name: "a.b", Type: "A", Code: "NOERROR", Answers: []string{"1.2.3.4"}},
			HTTP: &HTTP{"GET", "h", "/p", "q=1", "ua", 200}, TLS: &TLS{"s", []string{"h2"}, "j"}, Payload: []byte{0, 255},
		}},
		{Time: 14, Kind: Anomaly, Action: "port-scan", VM: "a", Message: "m", Net: &Net{SourceVM: "a", DestinationVM: "b", VLAN: 7}},
		{Time: 9, Kind: Guard, Action: "blocked", VM: "a", Message: "eicar", Call: Call{File: File{Path: "/x"}}},
		{Time: 10, Kind: Host, Action: "sysctl", Message: "kernel.x"},
		{Time: 11, Kind: Introspection, Action: "text-written", VM: "a", Message: "m"},
		{Time: 12, Kind: LogLine, VM: "a", Log: &Log{"sshd", "auth", 6, "text"}},
		{Time: 4, Kind: Alert, Finding: &Finding{
			RuleID: "id", RuleTitle: "t", Level: "high", VMs: []string{"a", "b"},
			Acts: []Event{write}, Matched: []string{`x: "y"`}, Response: "block,isolate", Count: 3, Excepted: 1,
			Taken: []Taken{{"block", "b", "write failed with EPERM", ""}, {"isolate", "a", "", "it is gone"}},
		}},
	}
}

var netips = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func TestJSONRoundTrip(t *testing.T) {
	for _, want := range samples() {
		line, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.ContainsRune(line, '\n') {
			t.Errorf("more than one line: %s", line)
		}
		var got Event
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if d := cmp.Diff(want, got, netips); d != "" {
			t.Errorf("%s: read back differently (-written +read):\n%s", line, d)
		}
	}
}

// The names are what collectors look for: each must be where the schema has it.
func TestJSONNames(t *testing.T) {
	line, err := json.Marshal(samples()[0])
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"@timestamp": "2025-11-22T08:26:40.123456789Z",
		"ecs":        map[string]any{"version": ecsVersion},
		"event": map[string]any{
			"kind": "event", "module": "warder", "dataset": "warder.syscall", "category": []any{"file"}, "type": []any{"change", "denied"},
			"action": "write", "sequence": 7.0,
		},
		"host":    map[string]any{"name": "a", "type": "vm"},
		"process": map[string]any{"pid": 41.0, "name": "sh", "thread": map[string]any{"id": 42.0}, "parent": map[string]any{"pid": 1.0}},
		"user":    map[string]any{"id": "1000", "effective": map[string]any{"id": "0"}},
		"file":    map[string]any{"path": "/mnt/x", "inode": "18446744073709551615", "size": 77.0},
		"warder": map[string]any{
			"vcpu": 1.0, "filesystem": "virtiofs", "inner_path": "/x",
			"share": map[string]any{"directory": "/srv/share", "device": 9.0},
			"syscall": map[string]any{
				"name": "write", "number": 1.0, "args": []any{"0x3", "0x8000000000000000", "0x9", "0x0", "0x0", "0x0"},
				"fd": 3.0, "flags": 1025.0, "offset": -1.0, "append": true, "size": 9.0, "payload": "AP9hYmM=",
				"missing": []any{"payload"}, "denied_errno": 1.0,
			},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("fields (-want +got):\n%s", d)
	}
}

func TestJSONRefusesWhatIsNotAnEvent(t *testing.T) {
	for _, in := range []string{
		`{}`,
		`{"event":{"kind":"event","action":"other"}}`,
		`{"event":{"dataset":"warder.nothing"}}`,
		`{"event":{"dataset":"warder.syscall"}}`,
		`{"event":{"dataset":"warder.syscall"},"warder":{"syscall":{"args":["0x0","0x0","0x0","0x0","0x0","nonsense"]}}}`,
		`{"event":{"dataset":"warder.syscall"},"warder":{"syscall":{"args":["0","0","0","0","0","0"],"missing":["hope"]}}}`,
	} {
		var e Event
		if err := json.Unmarshal([]byte(in), &e); err == nil {
			t.Errorf("%s: read as %+v, want an error", in, e)
		}
	}
	if _, err := json.Marshal(Event{}); err == nil {
		t.Error("an event without a kind was written")
	}
}

func FuzzJSON(f *testing.F) {
	for _, e := range samples() {
		line, err := json.Marshal(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		var e, again Event
		if json.Unmarshal(p, &e) != nil {
			return
		}
		line, err := json.Marshal(e)
		if err != nil {
			return // a year that JSON's time cannot hold
		}
		if err := json.Unmarshal(line, &again); err != nil {
			t.Fatalf("%s: cannot read back: %v", line, err)
		}
	})
}

func TestFlowID(t *testing.T) {
	a, b := netip.MustParseAddrPort("10.0.0.1:40000"), netip.MustParseAddrPort("10.0.0.2:80")
	id := FlowID("tcp", a, b)
	if id == 0 || id >= 1<<53 || id != FlowID("tcp", b, a) || id != FlowID("tcp", netip.MustParseAddrPort("[::ffff:10.0.0.1]:40000"), b) {
		t.Errorf("%d is not the same for both directions", id)
	}
	for _, other := range []uint64{FlowID("udp", a, b), FlowID("tcp", a, netip.MustParseAddrPort("10.0.0.2:81")), FlowID("tcp", netip.MustParseAddrPort("10.0.0.2:40000"), netip.MustParseAddrPort("10.0.0.1:80"))} {
		if other == id {
			t.Error("another flow has the same number")
		}
	}
	if FlowID("tcp", netip.AddrPort{}, b) != 0 || FlowID("tcp", netip.MustParseAddrPort("10.0.0.1:0"), b) != 0 {
		t.Error("a flow with an end that is not known has a number")
	}
}
