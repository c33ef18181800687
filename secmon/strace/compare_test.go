package strace_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"warder/secmon/event"
)

func pidOf(e *event.Event) string { return strconv.FormatUint(uint64(e.Process.TID), 10) }

// compare holds what was seen of each process against what strace has printed.
// What strace takes apart and we do not, structures above all, is passed over, and counted.
func compare(t *testing.T, theirs map[string]string, ours map[string][]string) {
	t.Helper()
	same, passed := 0, 0
	for _, pid := range slices.Sorted(maps.Keys(theirs)) {
		var want []string
		for line := range strings.Lines(theirs[pid]) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "--- ") {
				want = append(want, line)
			}
		}
		got := ours[pid]
		for i, w := range want {
			if i >= len(got) {
				t.Errorf("pid %s: %d calls, strace has %d, the next is\n%s", pid, len(got), len(want), w)
				break
			}
			s, p, ok := alike(w, got[i])
			same, passed = same+s, passed+p
			if !ok {
				t.Errorf("pid %s, call %d:\nstrace %s\nours   %s", pid, i, w, got[i])
			}
		}
		if len(got) > len(want) {
			t.Errorf("pid %s: %d calls, strace has %d, the next is\n%s", pid, len(got), len(want), got[len(want)])
		}
	}
	if len(ours) != len(theirs) {
		t.Errorf("%d processes, strace has %d", len(ours), len(theirs))
	}
	t.Logf("%d processes, %d arguments and results the same, %d not taken apart", len(theirs), same, passed)
	if same < 3*passed || same < 300 {
		t.Errorf("only %d arguments were compared, %d passed over", same, passed)
	}
}

// alike compares a call, argument by argument.
func alike(want, got string) (same, passed int, ok bool) {
	wName, wArgs, wResult := takeApart(want)
	gName, gArgs, gResult := takeApart(got)
	if wName != gName || !sameResult(wResult, gResult) {
		return 0, 0, false
	}
	same, ok = 1, true
	if slices.ContainsFunc(wArgs, named) {
		return same, len(wArgs), true // strace has an order of its own for them
	}
	for i := range max(len(wArgs), len(gArgs)) {
		switch {
		case i < len(wArgs) && undecoded(wArgs[i]):
			passed++
		case i >= len(wArgs) || i >= len(gArgs):
			ok = false
		case sameWord(wArgs[i], gArgs[i]):
			same++
		case isNumber(gArgs[i]) && !isNumber(wArgs[i]) && wArgs[i][0] != '"':
			passed++ // a name for a number
		default:
			ok = false
		}
	}
	return same, passed, ok
}

// named says whether an argument is written with its name.
func named(arg string) bool {
	name, _, ok := strings.Cut(arg, "=")
	return ok && name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// undecoded says whether strace has taken a structure or a set apart.
func undecoded(arg string) bool {
	return strings.HasPrefix(arg, "{") || strings.HasPrefix(arg, "[{") || strings.HasPrefix(arg, "[") && !strings.HasPrefix(arg, `["`) || strings.HasPrefix(arg, "~[")
}

// sameWord compares arguments: numbers as such, without what strace remarks.
func sameWord(want, got string) bool {
	if want == got {
		return true
	}
	want, _, remarked := strings.Cut(want, " /* ")
	w, err := strconv.ParseUint(want, 0, 64)
	g, err2 := strconv.ParseUint(got, 0, 64)
	return err == nil && err2 == nil && w == g || remarked && want == got
}

// sameResult compares results: numbers as such, without what strace says of them,
// and errors by name.
func sameResult(want, got string) bool {
	if want == got {
		return true
	}
	w, _, _ := strings.Cut(want, " ")
	g, _, more := strings.Cut(got, " ")
	return !more && w != "-1" && sameWord(w, g)
}

func isNumber(s string) bool {
	_, err := strconv.ParseInt(s, 0, 64)
	_, err2 := strconv.ParseUint(s, 0, 64)
	return err == nil || err2 == nil
}

// takeApart gives name, arguments and result of a line of strace's, nothing but the
// line where it is none.
func takeApart(line string) (name string, args []string, result string) {
	open := strings.IndexByte(line, '(')
	if open < 0 || strings.HasPrefix(line, "+++") {
		return line, nil, ""
	}
	depth, quoted, start := 0, false, open+1
	for i := open; i < len(line); i++ {
		switch c := line[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '(' || c == '{' || c == '[':
			depth++
		case c == ')' || c == '}' || c == ']':
			if depth--; depth == 0 {
				if i > start {
					args = append(args, strings.TrimSpace(line[start:i]))
				}
				_, result, _ = strings.Cut(line[i:], "= ")
				return line[:open], args, result
			}
		case c == ',' && depth == 1:
			args = append(args, strings.TrimSpace(line[start:i]))
			start = i + 1
		}
	}
	return line, nil, ""
}

// What compare lets pass, and what not.
func TestAlike(t *testing.T) {
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{`close(3) = 0`, `close(3) = 0`, true},
		{`close(3) = 0`, `close(4) = 0`, false},
		{`close(3) = 0`, `close(3) = -1 EBADF (Bad file descriptor)`, false},
		{`openat(AT_FDCWD, "a, (b", O_RDONLY) = 3`, `openat(AT_FDCWD, "a, (b", O_RDONLY) = 3`, true},
		{`openat(AT_FDCWD, "a", O_RDONLY) = 3`, `openat(AT_FDCWD, "b", O_RDONLY) = 3`, false},
		{`openat(AT_FDCWD, "a", O_RDONLY) = 3`, `openat(AT_FDCWD, 0x1000, O_RDONLY) = 3`, false},
		{`ioctl(0, TCGETS, {c_iflag=1, ...}) = 0`, `ioctl(0, 0x5401, 0x7ffc0000) = 0`, true},
		{`clone(child_stack=NULL, flags=SIGCHLD) = 7`, `clone(0x11, NULL, NULL, NULL, 0) = 7`, true},
		{`clone(child_stack=NULL, flags=SIGCHLD) = 7`, `clone(0x11, NULL, NULL, NULL, 0) = 8`, false},
		{`fcntl(1, F_GETFL) = 0x8002 (flags O_RDWR|O_LARGEFILE)`, `fcntl(1, F_GETFL) = 32770`, true},
		{`getdents64(3, 0x5581 /* 3 entries */, 32768) = 80`, `getdents64(3, 0x5581, 32768) = 80`, true},
		{`execve("/bin/x", ["x"], 0x7ffc /* 1 var */) = 0`, `execve("/bin/x", ["x", "y"], 0x7ffc /* 1 var */) = 0`, false},
		{`+++ exited with 0 +++`, `+++ exited with 1 +++`, false},
		{`read(3, "a"..., 8) = 8`, `read(3, "a", 8) = 8`, false},
	} {
		if _, _, ok := alike(c.want, c.got); ok != c.ok {
			t.Errorf("%s\n%s\nalike: %v", c.want, c.got, ok)
		}
	}
}
