package pattern

import (
	stdcmp "cmp"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/pattern/sigma"
)

const (
	minute = int64(60e9)
	first  = "echo 0 > /proc/sys/kernel/"
	second = "randomize_va_space\n"
)

func shippedEngine(t testing.TB) *Engine {
	t.Helper()
	l, err := ShippedFile("host_parameter_splice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return newEngine(t, l)
}

func newEngine(t testing.TB, l *Library) *Engine {
	t.Helper()
	e, err := New(l, DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// spliceSource is the rule that these tests are about.
func spliceSource(t testing.TB) string {
	t.Helper()
	src, err := fs.ReadFile(shipped, "rules/host_parameter_splice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(src)
}

// library is one file of rules, changed in some places.
func library(t testing.TB, src string, changes ...string) *Library {
	t.Helper()
	for i := 0; i < len(changes); i += 2 {
		if !strings.Contains(src, changes[i]) {
			t.Fatalf("%q is not in the rules", changes[i])
		}
		src = strings.Replace(src, changes[i], changes[i+1], 1)
	}
	rules, err := sigma.Parse("test.yaml", []byte(src), sigma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := NewLibrary(rules)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var tool = event.File{Path: "/mnt/tool", FS: "virtiofs", Share: "/srv", Inner: "/tool", Device: 1, Inode: 7, Size: -1}

func write(vm string, at int64, data string) event.Event {
	return event.Event{
		Time: at, Kind: event.Syscall, VM: vm, Process: event.Process{Name: "sh"},
		Call: event.Call{Name: "write", File: tool, Offset: -1, Append: true, Flags: unix.O_WRONLY | unix.O_APPEND, Size: uint64(len(data)), Payload: []byte(data)},
	}
}

func writeAt(vm string, at, offset int64, data string) event.Event {
	e := write(vm, at, data)
	e.Call.Append, e.Call.Offset = false, offset
	return e
}

func appendAt(vm string, at, size int64, data string) event.Event {
	e := write(vm, at, data)
	e.Call.Offset = size
	return e
}

func execOf(vm string, at int64, size int) event.Event {
	e := exec(vm, at)
	e.Call.File.Size = int64(size)
	return e
}

func execHolds(vm string, at int64, content string) event.Event {
	e := execOf(vm, at, len(content))
	e.Call.Payload = []byte(content)
	return e
}

func exec(vm string, at int64) event.Event {
	return event.Event{Time: at, Kind: event.Syscall, VM: vm, Call: event.Call{Name: "execve", FD: -1, Path: "/mnt/tool", File: tool}}
}

func open(vm string, at int64, flags uint32) event.Event {
	return event.Event{Time: at, Kind: event.Syscall, VM: vm, Call: event.Call{Name: "openat", File: tool, Flags: flags}}
}

func byTime(a, b event.Event) int { return stdcmp.Compare(a.Time, b.Time) }

func with(e event.Event, change func(*event.Event)) event.Event {
	change(&e)
	return e
}

// observe gives the verdict on the last event and all alerts.
func observe(e *Engine, events ...event.Event) (Verdict, []event.Event) {
	var v Verdict
	var alerts []event.Event
	for i, ev := range events {
		ev.Seq = uint64(i + 1)
		var more []event.Event
		v, more = e.Observe(&ev)
		alerts = append(alerts, more...)
	}
	return v, alerts
}

func TestSpliceNamesEveryVMAndIsBlocked(t *testing.T) {
	v, alerts := observe(shippedEngine(t),
		write("a", 1, "echo hello\n"+first), write("b", 2, second+"echo bye\n"), exec("c", 3))
	if v.Errno != unix.EPERM {
		t.Errorf("verdict %v, want EPERM", v)
	}
	if len(alerts) != 1 || alerts[0].Kind != event.Alert || alerts[0].Finding == nil {
		t.Fatalf("%d alerts, want 1: %+v", len(alerts), alerts)
	}
	f := alerts[0].Finding
	if d := cmp.Diff([]string{"a", "b", "c"}, f.VMs); d != "" {
		t.Errorf("VMs (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{`"echo 0 > /proc/sys/kernel/randomize_va_space"`}, f.Matched); d != "" {
		t.Errorf("matched (-want +got):\n%s", d)
	}
	var acts []string
	for _, a := range f.Acts {
		acts = append(acts, fmt.Sprintf("%s %s %q %d", a.VM, a.Call.Name, a.Call.Payload, a.Call.Denied))
	}
	want := []string{
		`a write "echo 0 > /proc/sys/kernel/" 0`,
		`b write "randomize_va_space" 0`,
		`c execve "" 1`,
	}
	if d := cmp.Diff(want, acts); d != "" {
		t.Errorf("acts (-want +got):\n%s", d)
	}
	if f.Level != "critical" || f.Response != "block" || f.RuleID == "" {
		t.Errorf("finding %+v", f)
	}
}

// What is not an attack of several VMs, or not any more.
func TestNoAlert(t *testing.T) {
	elsewhere := event.File{Path: "/mnt/other", Share: "/srv", Inner: "/other", Device: 1, Inode: 8, Size: -1}
	for name, events := range map[string][]event.Event{
		"without a":          {write("b", 2, second), exec("c", 3)},
		"without b":          {write("a", 1, first), exec("c", 3)},
		"without c":          {write("a", 1, first), write("b", 2, second)},
		"one VM writes both": {write("a", 1, first), write("a", 2, second), exec("c", 3)},
		"one VM writes all and another a comment": {
			write("a", 1, first+second), write("b", 2, "# harmless\n"), exec("c", 3)},
		"a writer executes":  {write("a", 1, first), write("b", 2, second), exec("b", 3)},
		"the other order":    {write("b", 1, second), write("a", 2, first), exec("c", 3)},
		"executed too early": {write("a", 1, first), exec("c", 2), write("b", 3, second)},
		"too late":           {write("a", 1, first), write("b", 2, second), exec("c", 11*minute)},
		"parts far apart":    {write("a", 1, first), write("b", 11*minute, second), exec("c", 12*minute)},
		"different files": {
			write("a", 1, first), with(write("b", 2, second), func(e *event.Event) { e.Call.File = elsewhere }), exec("c", 3)},
		"another file executed": {
			write("a", 1, first), write("b", 2, second), with(exec("c", 3), func(e *event.Event) { e.Call.File = elsewhere })},
		"files of the guests' own": {
			with(write("a", 1, first), func(e *event.Event) { e.Call.File.Share = "" }),
			with(write("b", 2, second), func(e *event.Event) { e.Call.File.Share = "" }),
			with(exec("c", 3), func(e *event.Event) { e.Call.File.Share = "" })},
		"another share": {
			with(write("a", 1, first), func(e *event.Event) { e.Call.File.Share, e.Call.File.Device = "/elsewhere", 2 }), write("b", 2, second), exec("c", 3)},
		"a gap between":           {writeAt("a", 1, 0, first), writeAt("b", 2, int64(len(first))+1, second), exec("c", 3)},
		"overwritten":             {writeAt("a", 1, 0, first), writeAt("b", 2, int64(len(first)), second), writeAt("b", 3, 0, "# "), exec("c", 4)},
		"emptied":                 {appendAt("a", 1, 0, first), appendAt("b", 3, 0, second), execOf("c", 4, len(second))},
		"emptied and grown again": {appendAt("a", 1, 0, first), appendAt("b", 3, 0, second+second), execOf("c", 4, 2*len(second))},
		"cut short":               {appendAt("a", 1, 0, first), appendAt("b", 3, int64(len(first)), second), execOf("c", 4, len(first))},
		"deleted and made again": {
			with(write("a", 1, first), func(e *event.Event) { e.Call.File.Inode = 0 }),
			with(open("b", 2, unix.O_WRONLY|unix.O_CREAT), func(e *event.Event) { e.Call.File.Inode, e.Call.File.Absent = 0, true }),
			write("b", 3, second), exec("c", 4)},
		"another file under the name": {
			write("a", 1, first),
			with(open("b", 2, unix.O_WRONLY|unix.O_CREAT), func(e *event.Event) { e.Call.File.Inode, e.Call.File.Absent = 0, true }),
			with(write("b", 3, second), func(e *event.Event) { e.Call.File.Inode = 8 }),
			with(exec("c", 4), func(e *event.Event) { e.Call.File.Inode = 8 })},
		"a content that no part accounts for": {
			writeAt("a", 1, 0, first), writeAt("b", 2, 500, "# b was here\n"), execHolds("c", 3, first+second)},
		"not open for writing": {
			write("a", 1, first), with(write("b", 2, second), func(e *event.Event) { e.Call.Flags = unix.O_RDONLY }), exec("c", 3)},
		"first part cut off": {
			with(write("a", 1, first), func(e *event.Event) { e.Call.Size += 10 }), write("b", 2, second), exec("c", 3)},
		"only read": {
			with(write("a", 1, first), func(e *event.Event) { e.Call.Name = "read" }), write("b", 2, second), exec("c", 3)},
		"unknown what is executed": {
			write("a", 1, first), write("b", 2, second), with(exec("c", 3), func(e *event.Event) { e.Call.Missing = event.MissingPath })},
	} {
		t.Run(name, func(t *testing.T) {
			v, alerts := observe(shippedEngine(t), events...)
			if v != Pass || len(alerts) != 0 {
				t.Errorf("verdict %v, alerts %+v", v, alerts)
			}
		})
	}
}

func TestStillFound(t *testing.T) {
	renamed := tool
	renamed.Path, renamed.Inner = "/mnt/new", "/new"
	nested := tool
	nested.Path, nested.Share, nested.Inner = "/mnt/srv/tool", "/", "/srv/tool"
	for name, events := range map[string][]event.Event{
		"by offset, in any order": {writeAt("b", 1, int64(len(first)), second), writeAt("a", 2, 0, first), exec("c", 3)},
		"behind what was there":   {writeAt("a", 1, 100, first), write("b", 2, second), exec("c", 3)},
		"a truncation that fails": {write("a", 1, first), open("d", 2, unix.O_WRONLY|unix.O_TRUNC), write("b", 3, second), exec("c", 4)},
		"appended at once":        {appendAt("a", 1, 0, first), appendAt("b", 2, 0, second), execOf("c", 3, len(first+second))},
		"grown since":             {appendAt("a", 1, 0, first), appendAt("b", 2, int64(len(first)), second), execOf("c", 3, 1000)},
		"a write of what is not there, over a part": {
			writeAt("a", 1, 0, first), with(writeAt("d", 2, 0, first), func(e *event.Event) { e.Call.Payload = nil }),
			writeAt("b", 3, int64(len(first)), second), exec("c", 4)},
		"written from memory that changed after the look": {
			writeAt("a", 1, 0, strings.Repeat("x", len(first))), writeAt("b", 2, int64(len(first)), second), execHolds("c", 3, first+second)},
		"written from memory that was not there": {
			writeAt("a", 1, 0, first), with(writeAt("b", 2, int64(len(first)), second), func(e *event.Event) { e.Call.Payload = nil }),
			execHolds("c", 3, first+second)},
		"seen, and another content by now": {
			writeAt("a", 1, 0, first), writeAt("b", 2, int64(len(first)), second), execHolds("c", 3, strings.Repeat("x", 100))},
		"moved away, another file under the name": {
			write("a", 1, first), write("b", 2, second),
			with(open("d", 3, unix.O_WRONLY|unix.O_CREAT), func(e *event.Event) { e.Call.File.Inode, e.Call.File.Absent = 0, true }),
			with(exec("c", 4), func(e *event.Event) { e.Call.File = renamed })},
		"renamed between": {
			write("a", 1, first), with(write("b", 2, second), func(e *event.Event) { e.Call.File = renamed }),
			with(exec("c", 3), func(e *event.Event) { e.Call.File = renamed })},
		"shares of nested directories": {
			write("a", 1, first), with(write("b", 2, second), func(e *event.Event) { e.Call.File = nested }),
			with(exec("c", 3), func(e *event.Event) { e.Call.File = nested; e.Call.File.Inode = 0 })},
		"known by name alone": {
			with(write("a", 1, first), func(e *event.Event) { e.Call.File.Inode = 0 }), write("b", 2, second), exec("c", 3)},
		"overwritten with the same": {writeAt("a", 1, 0, strings.Repeat("#", 80)), writeAt("b", 2, 0, "\n"+first), writeAt("d", 3, 1+int64(len(first)), second), exec("c", 4)},
		"by execveat":               {write("a", 1, first), write("b", 2, second), with(exec("c", 3), func(e *event.Event) { e.Call.Name = "execveat" })},
		"written by writev":         {with(write("a", 1, first), func(e *event.Event) { e.Call.Name = "writev" }), write("b", 2, second), exec("c", 3)},
	} {
		t.Run(name, func(t *testing.T) {
			v, alerts := observe(shippedEngine(t), events...)
			if v.Errno != unix.EPERM || len(alerts) != 1 {
				t.Errorf("verdict %v, %d alerts", v, len(alerts))
			}
		})
	}
}

func TestAlertOnceBlockAlways(t *testing.T) {
	e := shippedEngine(t)
	observe(e, write("a", 1, first), write("b", 2, second))
	for i, want := range []int{1, 0, 0} {
		v, alerts := observe(e, exec("c", int64(3+i)))
		if v.Errno != unix.EPERM || len(alerts) != want {
			t.Errorf("attempt %d: verdict %v, %d alerts, want %d", i, v, len(alerts), want)
		}
	}
	if v, alerts := observe(e, exec("d", 6)); v.Errno != unix.EPERM || len(alerts) != 1 {
		t.Errorf("another VM: verdict %v, %d alerts", v, len(alerts))
	}
	if s := e.Stats(); s.Splice.Repeated != 2 || s.Alerts != 2 || s.Splice.Triggers != 4 || s.Splice.Parts != 2 {
		t.Errorf("stats %+v", s)
	}
}

// Matching does not hold the engine up, and still each VM's attempts are told
// of once and refused always.
func TestManyTriggersAtOnce(t *testing.T) {
	e := shippedEngine(t)
	observe(e, write("a", 1, first), write("b", 2, second))
	var all sync.WaitGroup
	var told, refused atomic.Int64
	for i := range 64 {
		all.Go(func() {
			ev := exec(fmt.Sprint("c", i%4), int64(3+i))
			v, alerts := e.Observe(&ev)
			told.Add(int64(len(alerts)))
			if v.Errno == unix.EPERM {
				refused.Add(1)
			}
		})
	}
	all.Wait()
	if s := e.Stats(); told.Load() != 4 || refused.Load() != 64 || s.Splice.Repeated != 60 {
		t.Errorf("%d alerts of 4 VMs, %d of 64 refused, %+v", told.Load(), refused.Load(), s)
	}
}

// N parts by N VMs: the attack is found however the observations of the parts
// are interleaved, and not with one VM fewer.
func TestManyVMs(t *testing.T) {
	const n = 7
	rules := library(t, spliceSource(t), "gte: 2", fmt.Sprintf("gte: %d", n))
	script := "\n" + first + second
	var parts []event.Event
	for i := range n {
		lo, hi := len(script)*i/n, len(script)*(i+1)/n
		parts = append(parts, write(fmt.Sprintf("vm%d", i), int64(i+1), script[lo:hi]))
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		e := newEngine(t, rules)
		_, alerts := observe(e, append(slices.Clone(parts), exec("last", 100))...)
		if len(alerts) != 1 || len(alerts[0].Finding.VMs) != n+1 {
			t.Fatalf("alerts %+v", alerts)
		}
		if !slices.IsSortedFunc(alerts[0].Finding.Acts, byTime) {
			t.Errorf("acts are not in order of time")
		}
	}
	for i := range parts {
		e := newEngine(t, rules)
		same := slices.Clone(parts)
		same[i].VM = same[(i+1)%n].VM
		if _, alerts := observe(e, append(same, exec("last", 100))...); len(alerts) != 0 {
			t.Errorf("%d VMs only, and an alert", n-1)
		}
	}
}

// An alert about very many parts is of bounded size.
func TestAlertIsBounded(t *testing.T) {
	rules := library(t, spliceSource(t),
		"        regexps:\n            - '(?m)^[^#\\n]*>\\s*/proc/sys/kernel/randomize_va_space\\b'\n",
		"        strings: ["+strings.Repeat("x", 3000)+"END]\n")
	e := newEngine(t, rules)
	var events []event.Event
	for i := range 100 {
		events = append(events, write(fmt.Sprintf("vm%d", i), int64(i+1), strings.Repeat("x", 10)))
	}
	events = append(events, write("big", 101, strings.Repeat("x", 2000)+"END"), exec("c", 102))
	_, alerts := observe(e, events...)
	if len(alerts) != 1 {
		t.Fatalf("%d alerts", len(alerts))
	}
	acts := alerts[0].Finding.Acts
	if len(acts) != 64+1 || acts[0].VM != "vm0" || acts[64-1].VM != "big" || acts[64].VM != "c" || !slices.IsSortedFunc(acts, byTime) {
		t.Errorf("%d acts, first %s, last %s", len(acts), acts[0].VM, acts[len(acts)-1].VM)
	}
	if n := len(acts[64-1].Call.Payload); n != maxPayload {
		t.Errorf("%d bytes of payload", n)
	}
}

func TestJoinByTime(t *testing.T) {
	rules := library(t, spliceSource(t), "join: offset", "join: time")
	e := newEngine(t, rules)
	if _, alerts := observe(e, writeAt("a", 1, 5000, first), writeAt("b", 2, 0, second), exec("c", 3)); len(alerts) != 1 {
		t.Errorf("%d alerts, want 1", len(alerts))
	}
}

// A rule can be about whoever reads the object, as an interpreter does.
func TestTriggerByReading(t *testing.T) {
	rules := library(t, spliceSource(t), "[execve, execveat]", "[openat]")
	for flags, want := range map[uint32]int{unix.O_RDONLY: 1, unix.O_RDWR: 1, unix.O_WRONLY: 0} {
		e := newEngine(t, rules)
		v, alerts := observe(e, write("a", 1, first), write("b", 2, second), open("c", 3, flags))
		if len(alerts) != want || (v.Errno == unix.EPERM) != (want > 0) {
			t.Errorf("flags %#x: verdict %v, %d alerts, want %d", flags, v, len(alerts), want)
		}
	}
}

func TestResponseAlertOnly(t *testing.T) {
	rules := library(t, spliceSource(t), "response: block", "response: alert")
	e := newEngine(t, rules)
	v, alerts := observe(e, write("a", 1, first), write("b", 2, second), exec("c", 3))
	if v != Pass || len(alerts) != 1 || alerts[0].Finding.Response != "alert" {
		t.Errorf("verdict %v, alerts %+v", v, alerts)
	}
}

func TestNeeds(t *testing.T) {
	want := Needs{Syscalls: []string{"execve", "execveat", "openat", "pwrite64", "pwritev", "pwritev2", "write", "writev"}, Payload: 64 << 10}
	got := shippedEngine(t).Library().Needs()
	for _, call := range []string{"write", "execve"} {
		if by := got.By[call]; len(by) != 1 || by[0].ID != "6f2d3c1e-0b57-4b0e-9a44-3f6d3f3a7c10" {
			t.Errorf("%s is needed by %v", call, by)
		}
	}
	got.By = nil
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("needs (-want +got):\n%s", d)
	}
	for text, want := range map[string]int{
		"{product: warder, service: packet}\ndetection: {s: {warder.payload|contains: x}, condition: s}":                   1024,
		"{product: warder, service: packet}\ndetection: {s: [x, y], condition: s}":                                         1024,
		"{product: warder, service: packet}\ndetection: {s: {dns.question.name: x}, condition: s}":                         0,
		"{product: warder, service: syscall}\ndetection: {s: {warder.syscall.name: write, event.action: x}, condition: s}": 0,
	} {
		if got := library(t, "title: t\nlogsource: "+text+"\n").Needs().Message; got != want {
			t.Errorf("%s needs %d bytes of messages, want %d", text, got, want)
		}
	}
	if _, err := NewLibrary(nil); err == nil {
		t.Error("a library without rules was made")
	}
}

func BenchmarkObserveUnrelated(b *testing.B) {
	e := shippedEngine(b)
	ev := write("a", 1, "x")
	ev.Call.File.Share = ""
	b.ReportAllocs()
	for b.Loop() {
		e.Observe(&ev)
	}
}
