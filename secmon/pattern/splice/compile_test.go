package splice

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"warder/secmon/pattern/sigma"
)

const source = `title: Script put together by several VMs
correlation:
    type: warder_splice
    group-by: [file]
    timespan: 10m
    condition:
        gte: 2
    parts:
        syscall: [write, pwrite64]
        join: offset
    match:
        strings: [evil]
        regexps: ['> */proc/sys']
    trigger:
        syscall: [execve, execveat]
        vm: other
`

func parse(t testing.TB, src string) (*Rule, error) {
	t.Helper()
	rules, err := sigma.Parse("x.yaml", []byte(src), sigma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return Compile(rules[0])
}

func compile(t testing.TB, src string) *Rule {
	t.Helper()
	r, err := parse(t, src)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCompile(t *testing.T) {
	s := compile(t, source).Splice
	want := Splice{
		Object: "file", Timespan: 10 * time.Minute, VMs: 2, Parts: []string{"write", "pwrite64"}, Strings: []string{"evil"},
		Triggers: []string{"execve", "execveat"}, Other: true,
	}
	if d := cmp.Diff(want, s, cmpopts.IgnoreFields(Splice{}, "Regexps")); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if len(s.Regexps) != 1 || s.Regexps[0].String() != "> */proc/sys" {
		t.Errorf("regexps %v", s.Regexps)
	}
}

// A fault is reported where it is.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		old, new string // what is changed in a good rule
		at, want string // where the mark stands, what is said
	}{
		{"group-by: [file]", "group-by: [file, user]", "[file, user]", "grouped by one thing"},
		{"group-by: [file]", "group-by: [shoe]", "shoe", "no field"},
		{"timespan: 10m", "timespan: 10 m", "10 m", "timespan"},
		{"timespan: 10m", "timespan: 99d", "99d", "at most"},
		{"gte: 2", "gte: 1", "1", "at least 2"},
		{"gte: 2", "gte: two", "two", "at least 2"},
		{"gte: 2", "gt: 2", "gt", "only gte"},
		{"syscall: [write, pwrite64", "syscall: [write, read", "read", `"read" cannot be used here`},
		{"syscall: [execve, execveat]", "syscall: []", "[]", "system calls are needed"},
		{"join: offset", "join: size", "size", "by offset or by time"},
		{"join: offset", "content: process.command_line", "process", "what is written to it"},
		{"vm: other", "vm: same", "same", "other or any"},
		{"sys']", "sys(']", "'> */", "missing closing )"},
		{"sys']", "sys|x*']", "'> */", "matches nothing at all"},
		{"strings: [evil]", "strings: ['']", "''", "1 to 4096 bytes"},
		{"strings: [evil]", "words: [evil]", "words", `no "words" here`},
	} {
		src := strings.Replace(source, c.old, c.new, 1)
		if src == source {
			t.Fatalf("%q is not in the rule", c.old)
		}
		_, err := parse(t, src)
		e, ok := errors.AsType[*sigma.Error](err)
		if !ok {
			t.Errorf("%q: error %v", c.new, err)
			continue
		}
		if !strings.Contains(e.Message, c.want) {
			t.Errorf("%q: says %q, want %q in it", c.new, e.Message, c.want)
		}
		if line := strings.Split(src, "\n")[e.Line-1]; !strings.HasPrefix(line[e.Column-1:], c.at) {
			t.Errorf("%q: the mark is not under %q:\n%s", c.new, c.at, e)
		}
	}
}

// Of what is no file any call can be a part or a trigger.
func TestAnyCall(t *testing.T) {
	for call, want := range map[string]string{"msgsnd": "", "mq_timedsend": "", "nonsense": `there is no system call "nonsense"`} {
		_, err := parse(t, strings.NewReplacer("[file]", "[user.name]", "[write, pwrite64]", "["+call+"]", "join: offset", "join: time", "[execve, execveat]", "["+call+"]").Replace(source))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", call, err, want)
		}
	}
}

// A sequence of calls on one object, by several VMs, whatever is between them.
func TestSequence(t *testing.T) {
	r := compile(t, strings.NewReplacer(
		"[file]", "[user.name]", "[write, pwrite64]", "[openat, connect, send]", "join: offset", "content: warder.syscall.name",
		"        strings: [evil]\n", "", "        regexps: ['> */proc/sys']\n", "        sequence: ['^openat$', '^connect$', '^send']\n", "[execve, execveat]", "[execve]",
	).Replace(source))
	for _, c := range []struct {
		calls string // VM and call
		want  string // VMs of what is found
	}{
		{"a openat b connect a send c execve", "a b c"},
		{"a openat b connect a send a execve", ""}, // not another VM
		{"a openat a connect a send c execve", ""}, // one VM
		{"a connect b openat a send c execve", ""}, // another order
		{"b send a openat a openat b connect a connect b send b openat c execve", "a b c"},
		{"a openat a connect b openat a send c execve", ""}, // b is not in it
		{"a openat b connect c execve", ""},                 // not all
	} {
		e := New([]*Rule{r}, DefaultLimits)
		words := strings.Fields(c.calls)
		got := ""
		for i := 0; i < len(words); i += 2 {
			ev := write(words[i], int64(i+1), 0)
			ev.Call.Name, ev.Process.User = words[i+1], "joe"
			for _, f := range e.Observe(&ev) {
				got = strings.Join(f.Finding.VMs, " ")
				if n := len(f.Finding.Matched); n != 3 {
					t.Errorf("%s: matched %q", c.calls, f.Finding.Matched)
				}
			}
		}
		if got != c.want {
			t.Errorf("%s: found %q, want %q", c.calls, got, c.want)
		}
	}
}

// Parts can be anything that an event has, and belong together by any field.
func TestOtherObjects(t *testing.T) {
	r := compile(t, strings.NewReplacer(
		"[file]", "[user.name]", "[write, pwrite64]", "[execve]", "join: offset", "content: process.command_line",
		"[evil]", "[one two]", "        regexps: ['> */proc/sys']\n", "", "[execve, execveat]", "[connect]",
	).Replace(source))
	e := New([]*Rule{r}, DefaultLimits)
	run := func(vm, call, user, args string, at int64) int {
		ev := write(vm, at, 0)
		ev.Call.Name, ev.Process.User, ev.Process.Args = call, user, args
		return len(e.Observe(&ev))
	}
	run("a", "execve", "joe", "echo\x00one ", 1)
	run("b", "execve", "ann", "two\x00", 2)
	if n := run("c", "connect", "joe", "", 3); n != 0 {
		t.Errorf("%d found of parts of different users", n)
	}
	run("b", "execve", "joe", "two\x00", 4)
	if n := run("c", "connect", "ann", "", 5); n != 0 {
		t.Errorf("%d found for another user", n)
	}
	if n := run("c", "connect", "joe", "", 6); n != 1 {
		t.Errorf("%d found, want 1", n)
	}
	if n := run("c", "connect", "", "", 7); n != 0 || e.Stats().Undecided != 1 {
		t.Errorf("%d found without a user, %+v", n, e.Stats())
	}
}
