package introspect

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// village is a land with a few of everything.
func village(t testing.TB) (l *land, tasks map[string]uint64) {
	l = newLand(t)
	tasks = make(map[string]uint64)
	tasks["init"] = l.task(1, l.init, "init")
	tasks["daemon"] = l.task(20, tasks["init"], "daemon")
	tasks["child"] = l.task(21, tasks["daemon"], "child")
	tasks["ghost"] = l.task(30, tasks["init"], "ghost")
	l.add(l.vars["runqueues"]+l.off("rq.cfs_tasks"), tasks["ghost"]+l.off("task_struct.se.group_node"))
	return l, tasks
}

func names(all []ProcessInfo) (shown, hidden []string) {
	for _, p := range all {
		shown = append(shown, p.Comm)
		if p.Hidden {
			hidden = append(hidden, p.Comm)
		}
	}
	return shown, hidden
}

func TestProcesses(t *testing.T) {
	l, tasks := village(t)
	all, err := l.live.Processes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if shown, hidden := names(all); !slices.Equal(shown, []string{"init", "daemon", "child", "ghost"}) || hidden != nil {
		t.Errorf("processes %v, hidden %v", shown, hidden)
	}
	if p := all[2]; p.PID != 21 || p.PPID != 20 || p.Threads != 1 || uint64(p.Task) != tasks["child"] || p.State != "R" {
		t.Errorf("%+v", p)
	}
	if d := cmp.Diff([]string{InTasks, InPIDs, InTree, InQueue}, all[3].Seen); d != "" {
		t.Errorf("where ghost was seen (-want +got):\n%s", d)
	}
}

// A process is found wherever it was left, and marked when it is not on the list
// that /proc shows.
func TestHiddenProcesses(t *testing.T) {
	for name, hide := range map[string]func(l *land, task uint64){
		"from the list": func(l *land, task uint64) { l.unlink(task + l.off("task_struct.tasks")) },
		"from the list and from its parent": func(l *land, task uint64) {
			l.unlink(task + l.off("task_struct.tasks"))
			l.unlink(task + l.off("task_struct.sibling"))
		},
		"from all but the run queue": func(l *land, task uint64) {
			l.unlink(task + l.off("task_struct.tasks"))
			l.unlink(task + l.off("task_struct.sibling"))
			l.put(l.slot(3), 0)
		},
	} {
		l, tasks := village(t)
		hide(l, tasks["ghost"])
		all, err := l.live.Processes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, hidden := names(all); !slices.Equal(hidden, []string{"ghost"}) {
			t.Errorf("%s: hidden %v", name, hidden)
		}
	}
	// One that has exited is no secret.
	l, tasks := village(t)
	l.unlink(tasks["ghost"] + l.off("task_struct.tasks"))
	l.set("task_struct.exit_state", tasks["ghost"], 0x20)
	all, err := l.live.Processes(t.Context())
	if _, hidden := names(all); hidden != nil || err != nil {
		t.Errorf("a process that has exited: hidden %v, %v", hidden, err)
	}
}

func TestModules(t *testing.T) {
	l := newLand(t)
	l.module("one")
	gone := l.module("rootkit")
	l.unlink(gone + l.off("module.list"))
	all, err := l.live.Modules(t.Context())
	if err != nil || len(all) != 2 || all[0].Hidden || all[0].Name != "one" || !all[1].Hidden || all[1].Name != "rootkit" {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestSockets(t *testing.T) {
	l, tasks := village(t)
	l.socket(tasks["daemon"], 3, 53, true)
	l.socket(tasks["child"], 4, 99, false)
	l.unixTable()
	all, err := l.live.Sockets(t.Context())
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	for i, want := range []SocketInfo{
		{Proto: "udp", State: "UNCONN", Local: "0.0.0.0:53", Remote: "0.0.0.0:0", Inode: 4053, Owners: []Owner{{20, 3, "daemon"}}},
		{Proto: "udp", State: "UNCONN", Local: "0.0.0.0:99", Remote: "0.0.0.0:0", Inode: 4099, Owners: []Owner{{21, 4, "child"}}, Hidden: true},
	} {
		got := all[i]
		got.Sock, got.family, got.protocol, got.tabled = 0, 0, 0, false
		if d := cmp.Diff(want, got, cmp.AllowUnexported(SocketInfo{})); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}

// changing is memory in which something changes when it is read.
type changing struct {
	bytes  []byte
	at     int64 // where the read does that
	change func()
}

func (c *changing) ReadAt(p []byte, off int64) (int, error) {
	if f := c.change; f != nil && off <= c.at && c.at < off+int64(len(p)) {
		c.change = nil
		f()
	}
	return copy(p, c.bytes[off:]), nil
}

// TestSocketReplaced has a socket leave its chain while that is walked, just before it
// would be reached, for another in its place at the chain's head, as a connection does
// that begins to wait for its last packets.
func TestSocketReplaced(t *testing.T) {
	const away, sock = landBase + 2*landSize, 1024
	l, tasks := village(t)
	l.unixTable()
	second := l.socket(tasks["daemon"], 3, 53, true)
	first := l.socket(tasks["child"], 4, 57, true)
	node := l.off("sock.__sk_common.skc_node")
	bucket := l.get(l.vars["udp_table"]+l.off("udp_table.hash")) + 16*(53%4) + l.off("udp_hslot.head")
	if l.get(bucket) != first+node || l.get(first+node) != second+node {
		t.Fatal("the two are not in one chain")
	}
	slow := &changing{bytes: append([]byte(nil), l.bytes[first-landBase:][:sock]...), at: int64(node)}
	slow.change = func() {
		other := l.alloc(sock)
		copy(l.bytes[other-landBase:], l.bytes[second-landBase:][:sock])
		l.put(other+node, away+node)
		l.put(bucket, other+node)
		le.PutUint64(slow.bytes[node:], 0)
	}
	if err := l.mem.Attach(away, sock, slow); err != nil {
		t.Fatal(err)
	}
	l.put(bucket, away+node)
	all, err := l.live.Sockets(t.Context())
	if err != nil || slow.change != nil {
		t.Fatalf("%v, or nothing was changed", err)
	}
	var listed []string
	for _, s := range all {
		if s.tabled {
			listed = append(listed, s.Local)
		}
	}
	if d := cmp.Diff([]string{"0.0.0.0:53", "0.0.0.0:57"}, listed); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestSocketWhoseMemoryIsAnothers has a socket be seen whose memory then becomes that of
// another, which is seen as well. The first may be there still, in another place.
func TestSocketWhoseMemoryIsAnothers(t *testing.T) {
	const away, sock = landBase + 2*landSize, 1024
	l, tasks := village(t)
	l.unixTable()
	num, node := l.off("sock_common.skc_num"), l.off("sock.__sk_common.skc_node")
	bucket := func(port uint64) uint64 {
		return l.get(l.vars["udp_table"]+l.off("udp_table.hash")) + 16*(port%4) + l.off("udp_hslot.head")
	}
	moved := l.socket(tasks["daemon"], 3, 53, true)
	between := l.socket(tasks["child"], 4, 58, true)
	l.socket(tasks["child"], 5, 59, true)
	slow := &changing{bytes: append([]byte(nil), l.bytes[between-landBase:][:sock]...), at: int64(node)}
	slow.change = func() {
		le.PutUint16(l.bytes[moved+num-landBase:], 55)
		l.put(bucket(53), 0)
		l.put(moved+node, l.get(bucket(55)))
		l.put(bucket(55), moved+node)
	}
	if err := l.mem.Attach(away, sock, slow); err != nil {
		t.Fatal(err)
	}
	l.put(bucket(58), away+node)
	all, err := l.live.Sockets(t.Context())
	if err != nil || slow.change != nil {
		t.Fatalf("%v, or nothing was changed", err)
	}
	var listed []string
	for _, s := range all {
		if s.tabled {
			listed = append(listed, s.Local)
		}
	}
	if d := cmp.Diff([]string{"0.0.0.0:53", "0.0.0.0:55", "0.0.0.0:58", "0.0.0.0:59"}, listed); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// Lists that a guest has made to hold us up end in an error, in bounded time.
func TestListsWithoutEnd(t *testing.T) {
	for name, spoil := range map[string]func(l *land, tasks map[string]uint64){
		"a circle": func(l *land, ts map[string]uint64) { n := ts["child"] + l.off("task_struct.tasks"); l.put(n, n) },
		"a circle of two": func(l *land, ts map[string]uint64) {
			l.put(ts["child"]+l.off("task_struct.tasks"), ts["daemon"]+l.off("task_struct.tasks"))
		},
		"a wild pointer":    func(l *land, ts map[string]uint64) { l.put(ts["child"]+l.off("task_struct.tasks"), unmapped) },
		"a nil in the list": func(l *land, ts map[string]uint64) { l.put(ts["child"]+l.off("task_struct.tasks"), 0) },
	} {
		l, tasks := village(t)
		spoil(l, tasks)
		q := l.live.ask(t.Context())
		n := 0
		q.tasks(func(object) { n++ })
		if err := q.take(); !errors.Is(err, ErrWalk) && !errors.Is(err, ErrNotResident) || n > 100 {
			t.Errorf("%s: %d tasks, %v", name, n, err)
		}
		// By the other records they are all there.
		all, err := l.live.Processes(t.Context())
		if shown, _ := names(all); !errors.Is(err, ErrIncomplete) || len(shown) != 4 {
			t.Errorf("%s: %v, %v", name, shown, err)
		}
	}
	l, _ := village(t)
	root := l.vars["init_pid_ns"] + l.off("pid_namespace.idr") + l.off("idr.idr_rt") + l.off("xarray.xa_head")
	node := l.get(root)
	for i := range uint64(64) {
		l.put(node-2+l.off("xa_node.slots")+8*i, node) // a tree of itself
	}
	q := l.live.ask(t.Context())
	q.pids(func(object) {})
	if err := q.take(); !errors.Is(err, ErrWalk) {
		t.Errorf("a tree of itself: %v", err)
	}
}

// askAll puts every question to a guest.
func askAll(t testing.TB, l *land) {
	live, ctx := l.live, t.Context()
	live.Processes(ctx)
	live.Modules(ctx)
	live.Sockets(ctx)
	for _, pid := range []int{1, 21} {
		live.Files(ctx, pid)
		live.Maps(ctx, pid)
		live.Mounts(ctx, pid)
	}
	live.Syscalls(ctx)
	live.Vectors(ctx)
	live.LSM(ctx)
	live.AllSymbols(ctx, func(SymbolInfo) error { return nil })
}

// FuzzLiveGuest overwrites words of a guest's memory, with pointers to anywhere
// in it or with anything else, and asks everything.
func FuzzLiveGuest(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 2, 0, 7, 1, 1, 5})
	f.Add([]byte("the quick brown fox jumps over the lazy dog"))
	// Each list's first word, made to point to itself and to others.
	for at := byte(0); at < 250; at += 10 {
		f.Add([]byte{at, 1, at + 4, 2, 4, at + 1, 2, at, 3, 0})
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		l, tasks := village(t)
		l.module("one")
		l.socket(tasks["daemon"], 3, 53, true)
		l.socket(tasks["child"], 4, 99, false)
		l.mapped(tasks["child"])
		l.mounted(tasks["child"])
		size := (l.next - landBase) / 8
		for ; len(p) >= 5; p = p[5:] {
			at, v := (uint64(p[0])|uint64(p[1])<<8)*7%size, uint64(p[2])|uint64(p[3])<<8
			switch p[4] % 6 {
			case 0, 1: // what is written most is a pointer
				v = landBase + 8*(v*7%size)
			case 2:
				v = landBase + 256*(v%(size/32))
			case 3:
				v |= v<<16 | v<<32 | v<<48
			case 4:
				v = ^v
			}
			l.put(landBase+8*at, v)
		}
		askAll(t, l)
	})
}

func TestMapsAndMounts(t *testing.T) {
	l, tasks := village(t)
	l.mapped(tasks["child"])
	l.mounted(tasks["child"])
	maps, err := l.live.Maps(t.Context(), 21)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range maps {
		got = append(got, fmt.Sprintf("%x-%x %s", uint64(m.Start), uint64(m.End), m.Perms))
	}
	if d := cmp.Diff([]string{"4000-5000 r-xp", "5000-6000 r-xp", "6000-7000 r-xp", "7000-8000 r-xp"}, got); d != "" {
		t.Errorf("maps (-want +got):\n%s", d)
	}
	mounts, err := l.live.Mounts(t.Context(), 21)
	if err != nil {
		t.Fatal(err)
	}
	want := []MountInfo{
		{ID: 1, Parent: 1, Device: "0:0", Root: "/", Target: "/", FS: "rootfs", Source: "none", Options: "rw", Super: "rw"},
		{ID: 2, Parent: 1, Device: "0:0", Root: "/", Target: "/tmp", FS: "tmpfs", Source: "none", Options: "rw", Super: "rw"},
	}
	if d := cmp.Diff(want, mounts); d != "" {
		t.Errorf("mounts (-want +got):\n%s", d)
	}
	if _, err := l.live.Maps(t.Context(), 77); !errors.Is(err, ErrNoProcess) {
		t.Errorf("a process that is not there: %v", err)
	}
	all, err := l.live.Processes(t.Context())
	if err != nil || !slices.Equal(all[2].Args, []string{"prog", "-x"}) {
		t.Errorf("%+v, %v", all[2], err)
	}
}

// All modules' symbols together are bounded as one answer.
func TestSymbolsOfManyModules(t *testing.T) {
	l := newLandOf(t, 16<<20)
	table := l.alloc(64)
	l.set("mod_kallsyms.num_symtab", table, maxModuleSymbols-1)
	zeros := l.alloc(24 * maxModuleSymbols)
	l.set("mod_kallsyms.symtab", table, zeros)
	l.set("mod_kallsyms.strtab", table, l.str("x"))
	l.set("mod_kallsyms.typetab", table, zeros)
	for i := range 100 {
		l.set("module.kallsyms", l.module(fmt.Sprint("m", i)), table)
	}
	n := 0
	err := l.live.AllSymbols(t.Context(), func(SymbolInfo) error { n++; return nil })
	if n < maxModuleSymbols || n > maxAnswerReads/3 || !errors.Is(err, ErrIncomplete) {
		t.Errorf("%d symbols, %v", n, err)
	}
}

// BenchmarkProcesses is ps of 500 processes with their memory and files.
func BenchmarkProcesses(b *testing.B) {
	l := newLandOf(b, 32<<20)
	parent := l.task(1, l.init, "init")
	for pid := range uint64(499) {
		if t := l.task(2+pid, parent, "task"); pid%10 == 0 {
			l.mapped(t)
		}
	}
	for b.Loop() {
		all, err := l.live.Processes(b.Context())
		if err != nil || len(all) != 500 {
			b.Fatal(len(all), err)
		}
	}
}
