package splice

import (
	"strings"
	"testing"

	"warder/secmon/event"
	"warder/secmon/pattern/sigma"
)

const shared = `title: Script put together through a share
correlation:
    type: warder_splice
    group-by: [file]
    timespan: 10m
    condition: {gte: 2}
    parts: {share: [write]}
    match:
        strings: ['echo 0 > /proc/sys']
    trigger: {share: [read]}
`

// TestShare is a file that several VMs write and another reads, as the server of the share
// sees it: no system call is needed.
func TestShare(t *testing.T) {
	e := New([]*Rule{compile(t, shared)}, DefaultLimits)
	if calls, _ := e.Needs(); len(calls) != 0 {
		t.Errorf("it needs the calls %v", calls)
	}
	at := int64(0)
	act := func(vm, action string, inode uint64, off int64, text string) []Found {
		at++
		ev := event.Event{Time: at, Kind: event.FileAct, Action: action, VM: vm}
		ev.Call.File = event.File{Share: "/srv", Inner: "/x", Device: 1, Inode: inode, Size: -1}
		ev.Call.Offset, ev.Call.Size, ev.Call.Payload = off, uint64(len(text)), []byte(text)
		return e.Observe(&ev)
	}
	write := func(vm string, off int64, text string) { act(vm, event.ShareWrite, 5, off, text) }
	write("a", 0, "echo 0 > ")
	if f := act("c", event.ShareRead, 5, 0, ""); len(f) != 0 {
		t.Errorf("found of half a command: %+v", f[0].Finding)
	}
	write("b", 9, "/proc/sys/x")
	if f := act("c", event.ShareRead, 6, 0, ""); len(f) != 0 {
		t.Errorf("found in another file: %+v", f[0].Finding)
	}
	if f := act("b", event.ShareRead, 5, 0, ""); len(f) != 0 {
		t.Errorf("found by one of those who wrote: %+v", f[0].Finding)
	}
	f := act("c", event.ShareRead, 5, 0, "")
	if len(f) != 1 || strings.Join(f[0].Finding.VMs, " ") != "a b c" || len(f[0].Finding.Acts) != 3 {
		t.Fatalf("%+v", f)
	}
	write("b", 0, "echo 0 > /proc/sys/x") // a page that b's kernel writes back
	if f := act("c", event.ShareRead, 5, 0, ""); len(f) != 1 || strings.Join(f[0].Finding.VMs, " ") != "a b c" {
		t.Errorf("found %+v after all was written again as it was", f)
	}
	write("b", 0, "Echo 0 > /proc/sys/x")
	write("b", 0, "echo 0 > /proc/sys/x")
	if f := act("c", event.ShareRead, 5, 0, ""); len(f) != 0 {
		t.Errorf("found of what one has written anew: %+v", f[0].Finding)
	}
	act("d", event.ShareCreate, 5, 0, "") // the file was deleted, and its number used again
	if f := act("c", event.ShareRead, 5, 0, ""); len(f) != 0 {
		t.Errorf("found in a new file: %+v", f[0].Finding)
	}
}

func TestShareFaults(t *testing.T) {
	for _, c := range [][3]string{
		{"{share: [write]}", "{share: [read]}", "objects that are files: [write]"}, {"{share: [read]}", "{share: [write]}", "objects that are files: [read]"},
		{"[file]", "[destination.vm]", "for objects that are files"}, {"{share: [write]}", "{share: write}", "objects that are files"},
	} {
		rules, err := sigma.Parse("x.yaml", []byte(strings.Replace(shared, c[0], c[1], 1)), sigma.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Compile(rules[0]); err == nil || !strings.Contains(err.Error(), c[2]) {
			t.Errorf("%s: %v", c[1], err)
		}
	}
}
