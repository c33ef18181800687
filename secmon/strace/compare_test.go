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
	if same < 9*passed || same < 500 {
		t.Errorf("only %d arguments were compared, %d passed over", same, passed)
	}
}

// alike compares a call, argument by argument.
func alike(want, got string) (same, passed int, ok bool) {
	wName, wArgs, wResult := takeApart(want)
	gName, gArgs, gResult := takeApart(got)
	if wName != gName {
		return 0, 0, false
	}
	ok = true
	for i := range max(len(wArgs), len(gArgs)) {
		switch {
		case i < len(wArgs) && undecoded(wArgs[i]):
			passed++
		case i >= len(wArgs) || i >= len(gArgs) || wArgs[i] != gArgs[i]:
			ok = false
		default:
			same++
		}
	}
	if wResult != gResult {
		return same, passed, false
	}
	return same + 1, passed, ok
}

// undecoded says whether strace has taken an argument apart that we do not.
func undecoded(arg string) bool {
	return strings.HasPrefix(arg, "{") || strings.HasPrefix(arg, "[{") || strings.HasPrefix(arg, "~[")
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
