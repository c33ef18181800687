package event

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestStrings(t *testing.T) {
	table := NewStrings()
	for i := range 3 * len(table.slots) {
		table.one(fmt.Sprint(i))
	}
	raw := []byte("/usr/bin/sh")
	one := Event{Process: Process{Exe: string(raw), Args: "sh\x00", ParentExe: string(raw)}}
	table.Share(&one)
	if one.Process.Exe != "/usr/bin/sh" || one.Process.Args != "sh\x00" || one.Process.Dir != "" {
		t.Errorf("%+v", one.Process)
	}
	var process Process
	if n := testing.AllocsPerRun(100, func() {
		other := Event{Process: Process{Exe: one.Process.Exe}}
		table.Share(&other)
		process = other.Process
	}); n != 0 || process.Exe != one.Process.Exe {
		t.Errorf("%v allocations for a string that is known, %+v", n, process)
	}
	long := strings.Repeat("x", maxShared+1)
	if got := table.one(long); got != long {
		t.Error("a long string was changed")
	}
	for i := range table.slots {
		if s := table.slots[i].Load(); s != nil && (len(*s) > maxShared || bytes.ContainsRune([]byte(*s), 'x')) {
			t.Errorf("%q is kept", *s)
		}
	}
}
