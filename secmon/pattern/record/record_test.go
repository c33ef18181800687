package record

import (
	"net/netip"
	"testing"

	"warder/secmon/event"
	"warder/secmon/pattern/sigma"
)

// A system call makes the records that the audit subsystem would write, and
// those of the categories that it belongs to.
func TestRecords(t *testing.T) {
	for _, c := range []struct {
		event event.Event
		want  []Kind
	}{
		{event.Event{Kind: event.Syscall, Call: event.Call{Name: "execve", Path: "/x"}}, []Kind{AuditSyscall, AuditExecve, AuditCwd, Process, AuditPath, Native}},
		{event.Event{Kind: event.Syscall, Call: event.Call{Name: "openat", Path: "/x"}}, []Kind{AuditSyscall, AuditPath, Native}},
		{event.Event{Kind: event.Syscall, Call: event.Call{Name: "openat", Path: "/x", Flags: 0o100, File: event.File{Absent: true}}}, []Kind{AuditSyscall, AuditPath, File, Native}},
		{event.Event{Kind: event.Syscall, Call: event.Call{Name: "connect"}}, []Kind{AuditSyscall, AuditSockaddr, Connect, Native}},
		{event.Event{Kind: event.Task, Action: event.Ran}, []Kind{Process, Native}},
		{event.Event{Kind: event.Task, Action: event.Ended}, []Kind{Native}},
		{event.Event{Kind: event.FileAct, Action: event.Created}, []Kind{File, Native}},
		{event.Event{Kind: event.Flow, Action: event.Began}, []Kind{Connect, Native}},
		{event.Event{Kind: event.Packet, Net: &event.Net{DNS: &event.DNS{}}}, []Kind{DNS, Native}},
		{event.Event{Kind: event.LogLine, Log: &event.Log{Program: "sshd", Text: "x"}}, []Kind{Log, Native}},
		{event.Event{Kind: event.LogLine, Log: &event.Log{Text: "type=PATH name=x"}}, []Kind{AuditLine, Native}},
		{event.Event{Kind: event.Lifecycle}, []Kind{Native}},
	} {
		var got []Kind
		for _, r := range Of(&c.event, nil) {
			got = append(got, r.Kind)
		}
		if len(got) != len(c.want) {
			t.Errorf("%+v: %v, want %v", c.event, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%+v: %v, want %v", c.event, got, c.want)
			}
		}
	}
}

func TestAuditFields(t *testing.T) {
	const line = `type=SYSCALL msg=audit(1.2:3): arch=c000003e syscall=59 a0=1f a1=0 success=yes exe="/usr/bin/a b" key=(null) unit=x.service msg='op=login acct="root" res=success'`
	e := &event.Event{Kind: event.LogLine, Log: &event.Log{Text: line}}
	for name, want := range map[string]string{
		"type": "SYSCALL", "a0": "1f", "exe": "/usr/bin/a b", "key": "(null)", "acct": "root", "res": "success", "op": "login", "unit": "x.service", "message": line,
	} {
		f, ok := AuditLine.Field(name)
		if v := f.Value(e); !ok || v.State != Present || v.String() != want {
			t.Errorf("%s: %+v, want %q", name, v, want)
		}
	}
	if f, _ := AuditLine.Field("nit"); f.Value(e).State != Absent {
		t.Error("the end of a name is taken for a name")
	}
	if f, _ := AuditLine.Field("a0"); true {
		if n, ok := f.Value(e).Float(); !ok || n != 0x1f {
			t.Errorf("a0 is %v, want 31", n)
		}
	}
}

func TestArguments(t *testing.T) {
	e := &event.Event{Kind: event.Syscall, Call: event.Call{Name: "execve"}, Process: event.Process{Args: "sh\x00-c\x00\x00last one\x00"}}
	for name, want := range map[string]Value{
		"a0": {State: Present, Text: "sh"}, "a2": {State: Empty}, "a3": {State: Present, Text: "last one"}, "a4": {}, "a11": {},
		"argc": {State: Present, Form: Number, Number: 4},
	} {
		f, ok := AuditExecve.Field(name)
		if got := f.Value(e); !ok || got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	if _, ok := AuditExecve.Field("a"); ok {
		t.Error("there is a field a")
	}
	if f, _ := Process.Field("CommandLine"); f.Value(e).String() != "sh -c  last one" {
		t.Errorf("command line %q", f.Value(e).String())
	}
}

func TestValues(t *testing.T) {
	for _, c := range []struct {
		value  Value
		text   string
		number float64
		ok     bool
	}{
		{text("0x10"), "0x10", 16, true}, {text(" 7 "), " 7 ", 7, true}, {text("7a"), "7a", 0, false}, {text("inf"), "inf", 0, false}, {text("-1.5"), "-1.5", -1.5, true},
		{number(12), "12", 12, true}, {hex(255), "ff", 255, true}, {address(netip.MustParseAddr("::1")), "::1", 0, false}, {address(netip.Addr{}), "", 0, false},
		{when.Value(&event.Event{Time: 1_500_000_000}), "1970-01-01 00:00:01.500", 1.5, true},
	} {
		n, ok := c.value.Float()
		if c.value.String() != c.text || n != c.number || ok != c.ok {
			t.Errorf("%+v: %q, %v, %v", c.value, c.value.String(), n, ok)
		}
	}
}

// Every field that keywords are looked for in is one.
func TestTexts(t *testing.T) {
	for k := range Kinds {
		for _, name := range k.Texts() {
			if _, ok := k.Field(name); !ok {
				t.Errorf("%v has no field %s", k, name)
			}
		}
	}
}

func TestSelect(t *testing.T) {
	s, _ := Select(sigma.LogSource{Product: "linux", Service: "sshd"})
	line := func(program string) Record {
		return Record{&event.Event{Kind: event.LogLine, Log: &event.Log{Program: program}}, Log}
	}
	if !s.Has(line("sshd")) || s.Has(line("cron")) {
		t.Error("the log of sshd is that of the program sshd")
	}
	s, _ = Select(sigma.LogSource{Product: "warder", Service: "flow"})
	if !s.Has(Record{&event.Event{Kind: event.Flow}, Native}) || s.Has(Record{&event.Event{Kind: event.Task}, Native}) {
		t.Error("the service flow has events of flows")
	}
}
