package pattern

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/pattern/sigma"
)

// ran is a program that a VM runs, at a second.
func ran(vm string, at int64, exe string, args ...string) event.Event {
	return event.Event{
		Time: at * 1e9, Seq: uint64(at), Kind: event.Task, Action: event.Ran, VM: vm,
		Process: event.Process{Exe: exe, Args: strings.Join(args, "\x00") + "\x00", User: "joe"},
	}
}

const programs = `
title: curl
name: curl
id: 00000000-0000-4000-8000-000000000001
level: low
logsource: {category: process_creation, product: linux}
detection:
  s: {Image|endswith: /curl}
  condition: s
---
title: shell
name: shell
level: low
logsource: {category: process_creation, product: linux}
detection:
  s: {Image|endswith: /sh}
  condition: s
`

const both = `---
title: download and run
level: high
correlation:
  type: temporal_ordered
  rules: [curl, shell]
  group-by: [User]
  timespan: 1m
`

// told is what alerts say, shortly.
func told(alerts []event.Event) string {
	var out []string
	for _, a := range alerts {
		f := a.Finding
		s := fmt.Sprintf("%s %v x%d", f.RuleTitle, f.VMs, f.Count)
		if f.Excepted > 0 {
			s += fmt.Sprintf(" -%d", f.Excepted)
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func run(e *Engine, events ...event.Event) []event.Event {
	_, alerts := observe(e, events...)
	return append(alerts, e.Flush()...)
}

func TestDetectionsAndCorrelations(t *testing.T) {
	e := newEngine(t, library(t, programs+both))
	alerts := run(e, ran("a", 1, "/bin/curl"), ran("b", 2, "/bin/ls"), ran("b", 3, "/bin/sh"), ran("a", 100, "/bin/sh"))
	if got, want := told(alerts), "download and run [a b] x1"; got != want {
		t.Errorf("alerts %q, want %q", got, want)
	}
	f := alerts[0].Finding
	if f.Level != "high" || f.Response != "alert" || len(f.Acts) != 2 || f.Acts[1].VM != "b" || f.Matched[0] != `temporal_ordered 2, User="joe"` {
		t.Errorf("finding %+v", f)
	}
	if s := e.Stats(); s.Events != 4 || s.Matches != 3 || s.Alerts != 1 {
		t.Errorf("stats %+v", s)
	}
	// By themselves the parts alert only where the correlation says so.
	e = newEngine(t, library(t, programs+both+"  generate: true\n"))
	if got, want := told(run(e, ran("a", 1, "/bin/curl"), ran("b", 3, "/bin/sh"))), "curl [a] x1; shell [b] x1; download and run [a b] x1"; got != want {
		t.Errorf("alerts %q, want %q", got, want)
	}
}

// Alerts come when the lateness window has passed, by the clock alone.
func TestAdvance(t *testing.T) {
	e := newEngine(t, library(t, programs+both))
	last := ran("b", 3, "/bin/sh")
	if _, alerts := observe(e, ran("a", 1, "/bin/curl"), last); len(alerts) != 0 {
		t.Fatalf("%d alerts before the window has passed", len(alerts))
	}
	at, ok := e.Next()
	if !ok || at <= last.Time {
		t.Fatalf("next at %d, %v", at, ok)
	}
	if alerts := e.Advance(at - 1); len(alerts) != 0 {
		t.Errorf("%d alerts too early", len(alerts))
	}
	if alerts := e.Advance(at); len(alerts) != 1 {
		t.Errorf("%d alerts, want 1", len(alerts))
	}
	if _, ok := e.Next(); ok {
		t.Error("still something to wait for")
	}
}

// A sequence over VMs can refuse the act that completes it.
func TestCorrelationBlocks(t *testing.T) {
	e := newEngine(t, library(t, programs+both+"warder: {response: [block, snapshot]}\n"))
	if v, _ := observe(e, ran("a", 1, "/bin/curl")); v != Pass {
		t.Errorf("the first act: %v", v)
	}
	v, alerts := observe(e, ran("b", 3, "/bin/sh"))
	if v.Errno != unix.EPERM || told(alerts) != "download and run [a b] x1" || alerts[0].Finding.Response != "block,snapshot" {
		t.Errorf("verdict %v, alerts %q", v, told(alerts))
	}
	if more := e.Flush(); len(more) != 0 {
		t.Errorf("told twice: %q", told(more))
	}
	e = newEngine(t, library(t, strings.Replace(programs, "level: low", "level: low\nwarder: {response: pause}", 1)))
	if v, _ := observe(e, ran("a", 1, "/bin/curl")); v.Errno != 0 || !v.Pause {
		t.Errorf("verdict %v, want a pause", v)
	}
}

func TestThrottle(t *testing.T) {
	e := newEngine(t, library(t, strings.Replace(programs, "level: low", "level: low\nwarder: {throttle: 10s}", 1)))
	var got []string
	for _, ev := range []event.Event{
		ran("a", 1, "/bin/curl"), ran("a", 2, "/bin/curl"), ran("b", 3, "/bin/curl"), ran("a", 10, "/bin/curl"), ran("a", 11, "/bin/curl"), ran("a", 12, "/bin/curl"),
	} {
		_, alerts := e.Observe(&ev)
		got = append(got, told(alerts))
	}
	want := []string{"curl [a] x1", "", "curl [b] x1", "", "curl [a] x3", ""}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("alerts %q, want %q", got, want)
	}
	if s := e.Stats(); s.Throttled != 3 {
		t.Errorf("%d throttled, want 3", s.Throttled)
	}
}

// What a filter excepts raises no alert, and the next alert says how much it was.
func TestExceptions(t *testing.T) {
	filter := "---\ntitle: backups\nlogsource: {category: process_creation, product: linux}\nfilter:\n  rules: [curl]\n  backup: {CommandLine|contains: backup}\n  condition: not backup\n"
	e := newEngine(t, library(t, programs+filter))
	alerts := run(e, ran("a", 1, "/bin/curl", "curl", "backup"), ran("a", 2, "/bin/curl", "curl", "backup"), ran("a", 3, "/bin/curl"), ran("a", 4, "/bin/curl"))
	if got, want := told(alerts), "curl [a] x1 -2; curl [a] x1"; got != want {
		t.Errorf("alerts %q, want %q", got, want)
	}
	if s := e.Stats(); s.Excepted != 2 {
		t.Errorf("%d excepted, want 2", s.Excepted)
	}
}

// Another library takes over what is under way for rules that stay as they are.
func TestReload(t *testing.T) {
	l := library(t, programs+both)
	other := "---\ntitle: another\nlogsource: {category: file_event}\ndetection: {s: {Image: x}, condition: s}\n"
	for _, c := range []struct {
		name, src, want string
	}{
		{"the same", programs + both, "download and run [a b] x1"},
		{"more rules, in front", strings.TrimPrefix(other, "---\n") + "---" + programs + both, "download and run [a b] x1"},
		{"a changed part", strings.Replace(programs, "/curl", "/curl2", 1) + both, ""},
		{"a changed correlation", programs + strings.Replace(both, "1m", "2m", 1), ""},
		{"gone", strings.TrimPrefix(other, "---\n"), ""},
	} {
		e := newEngine(t, l)
		observe(e, ran("a", 1, "/bin/curl"))
		e.Advance(2e9)
		if err := e.Reload(library(t, c.src)); err != nil {
			t.Fatal(err)
		}
		if got := told(run(e, ran("b", 3, "/bin/sh"))); got != c.want {
			t.Errorf("%s: alerts %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLibraryNeeds(t *testing.T) {
	needs := func(source, detection string) Needs {
		return library(t, "title: t\nlogsource: {"+source+"}\ndetection: {s: {"+detection+"}, condition: s}\n").Needs()
	}
	for _, c := range []struct{ source, detection, calls string }{
		{"category: process_creation", "Image: x", "execve execveat"},
		{"category: network_connection", "Image: x", "connect"},
		{"service: auditd", "type: SYSCALL, SYSCALL: [ptrace, bpf], comm: x", "bpf ptrace"},
		{"service: auditd", "type: EXECVE, a0: x", "execve execveat"},
		{"service: sshd", "message: x", ""},
		{"product: warder, service: flow", "destination.port: 22", ""},
		{"product: warder, service: flow", "event.action: accept", "accept accept4"},
		{"product: warder, service: syscall", "warder.syscall.name: mount", "mount"},
	} {
		n := needs(c.source, c.detection)
		if got := strings.Join(n.Syscalls, " "); got != c.calls || len(n.Open) != 0 {
			t.Errorf("%s, %s: calls %q, want %q; open %d", c.source, c.detection, got, c.calls, len(n.Open))
		}
	}
	both := library(t, `title: a
logsource: {product: warder, service: flow}
detection: {s: {event.action: send}, condition: s}
---
title: b
logsource: {product: warder, service: syscall}
detection: {s: {warder.syscall.name: write}, condition: s}
`).Needs()
	if !slices.Contains(both.Syscalls, "write") || !slices.Contains(both.Flows, "write") || slices.Contains(both.Sockets, "write") || !slices.Contains(both.Sockets, "writev") || !slices.Contains(both.Syscalls, "writev") {
		t.Errorf("all writes, and their flows: calls %q, flows %q, on sockets alone %q", both.Syscalls, both.Flows, both.Sockets)
	}
	if n := needs("service: auditd", "type: SYSCALL, comm: x"); len(n.Open) != 1 {
		t.Error("a rule about every system call is not told of")
	}
}

func TestLoad(t *testing.T) {
	l, err := Shipped()
	if err != nil || len(l.Rules) == 0 {
		t.Fatalf("shipped rules: %v", err)
	}
	src := []byte(spliceSource(t))
	tree := fstest.MapFS{"d/a.yaml": {Data: src}, "d/e/b.yml": {Data: src}, "d/README.md": {Data: []byte("no rule")}}
	if _, err := Load(tree, sigma.Options{}); err == nil || !strings.Contains(err.Error(), "is also that of") {
		t.Errorf("the same id twice: %v", err)
	}
	delete(tree, "d/e/b.yml")
	if l, err := Load(tree, sigma.Options{}); err != nil || len(l.Rules) != 1 {
		t.Errorf("one rule: %v", err)
	}
	if _, err := Load(fstest.MapFS{}, sigma.Options{}); err == nil {
		t.Error("nothing was loaded")
	}
}

// The rule that the documentation explains is the one that is shipped, and the
// fault that it shows is reported as it says.
func TestDocumentedRule(t *testing.T) {
	doc, err := os.ReadFile("../../docs/patterns.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```yaml\ntitle:")
	src, rest, _ := strings.Cut("title:"+rest, "```")
	got, want := library(t, src), library(t, spliceSource(t))
	a, b := got.splices[0], want.splices[0]
	if d := cmp.Diff(b.Splice, a.Splice, cmp.Comparer(func(x, y *regexp.Regexp) bool { return x.String() == y.String() })); d != "" || got.Rules[0].ID != want.Rules[0].ID || !a.Block {
		t.Errorf("rule (-shipped +documented):\n%s", d)
	}
	_, rest, _ = strings.Cut(rest, "```text\n")
	fault, _, _ := strings.Cut(rest, "```")
	rules, err := sigma.Parse("rules/mine.yaml", []byte(strings.Replace(spliceSource(t), "gte: 2", "gte: 1", 1)), sigma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewLibrary(rules); err == nil || err.Error() != strings.TrimSpace(fault) {
		t.Errorf("the fault is reported as\n%v\ndocumented as\n%s", err, fault)
	}
}

func TestExtensionFaults(t *testing.T) {
	for in, want := range map[string]string{
		"{response: explode}":        "a response is one of",
		"{response: []}":             "a response is needed",
		"{throttle: soon}":           "a timespan is",
		"{colour: red}":              `no "colour" under warder`,
		"yes":                        "a map of",
		"{samples: {positive: [x]}}": "a sample has a name",
	} {
		rules, err := sigma.Parse("x.yaml", []byte(strings.Replace(programs, "level: low", "warder: "+in, 1)), sigma.Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = NewLibrary(rules)
		if e, ok := errors.AsType[*sigma.Error](err); !ok || !strings.Contains(e.Message, want) {
			t.Errorf("%s: error %v, want %q", in, err, want)
		}
	}
}

func FuzzLibrary(f *testing.F) {
	f.Add(spliceSource(f))
	f.Add(programs + both)
	f.Fuzz(func(t *testing.T, src string) {
		rules, err := sigma.Parse("fuzz.yaml", []byte(src), sigma.Options{})
		if err != nil {
			return
		}
		l, err := NewLibrary(rules)
		if err != nil {
			_ = err.Error()
			return
		}
		l.Needs()
		e, err := New(l, DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		for i := range int64(8) {
			run(e, ran("a", i, "/bin/curl", "curl", "x"), exec("b", i), write("c", i, "evil"))
		}
	})
}
