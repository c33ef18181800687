package introspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"warder/vmm/pagetable"
)

// Where the kernel keeps track of processes. A rootkit that takes a process off
// one of them leaves it on another, or the process does not run.
const (
	InTasks = "tasks" // the list of all processes
	InPIDs  = "pids"  // the table of numbers, by which /proc and signals find them
	InTree  = "tree"  // the children of each
	InQueue = "queue" // the run queues: what is running or about to
)

// ProcessInfo is a process as the kernel knows it.
type ProcessInfo struct {
	PID     int      `json:"pid"`
	PPID    int      `json:"ppid"`
	UID     uint32   `json:"uid"`
	EUID    uint32   `json:"euid"`
	State   string   `json:"state"` // as ps(1) and /proc/PID/stat have it
	Comm    string   `json:"comm"`
	Args    []string `json:"args,omitempty"`
	Exe     string   `json:"exe,omitempty"`
	Kernel  bool     `json:"kernel_thread,omitempty"`
	Threads int      `json:"threads"`
	Started float64  `json:"started"` // seconds after the guest's boot
	CPU     int      `json:"cpu"`     // vCPU that it is on, or was on last
	OnCPU   bool     `json:"on_cpu"`
	Cgroup  string   `json:"cgroup,omitempty"`
	// CgroupID is the cgroup's inode number, as fanotify and BPF give it.
	CgroupID uint64 `json:"cgroup_id,omitempty"`
	// Namespaces are their inode numbers, as /proc/PID/ns has them.
	Namespaces map[string]uint32 `json:"namespaces,omitempty"`
	Task       Pointer           `json:"task"` // its task_struct
	// Seen is where the process was found: see [InTasks].
	Seen []string `json:"seen"`
	// Hidden says that it lives and is missing from the list or from the table.
	Hidden bool `json:"hidden,omitempty"`
	// Missing names what could not be read: paged out, or damaged.
	Missing []string `json:"missing,omitempty"`
}

// ErrNoProcess is the error for a number that is no process's.
var ErrNoProcess = errors.New("not found")

// ErrIncomplete is the error beside a list that may lack something.
var ErrIncomplete = errors.New("not all records could be read")

// Bounds: Linux' own of processes (PID_MAX_LIMIT is 4 million) would be seconds
// of walking; no guest of a few gigabytes comes near these.
const (
	maxTasks = 1 << 17
	maxArgs  = 4096 // bytes of a command line, as ps(1) shows
)

// attempts is how often a walk is begun again when it ran into something that
// was being changed.
const attempts = 8

// again does a walk until it gets through, or has failed as often as is
// reasonable. Each attempt starts afresh: walk clears what the last one found.
func (q *question) again(walk func()) {
	for n := 1; ; n++ {
		walk()
		if q.err == nil || n == attempts || errors.Is(q.err, ErrMissing) || q.ctx.Err() != nil || q.left <= 0 {
			return
		}
		q.err = nil
	}
}

// Processes lists the guest's processes by number, those included that somebody
// has hidden from the guest itself. The error wraps [ErrIncomplete] when one of the
// records could not be walked: what the others have is there.
func (l *Live) Processes(ctx context.Context) ([]ProcessInfo, error) {
	q := l.ask(ctx)
	seen := make(map[uint64][]string) // by task
	var errs []error
	for _, w := range []struct {
		name string
		walk func(add func(object))
	}{{InTasks, q.tasks}, {InPIDs, q.pids}, {InTree, q.tree}, {InQueue, q.queued}} {
		var found []uint64
		q.again(func() {
			found = found[:0]
			w.walk(func(t object) { found = append(found, t.addr) })
		})
		if err := q.take(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", w.name, err))
		}
		for _, t := range found {
			if !slices.Contains(seen[t], w.name) {
				seen[t] = append(seen[t], w.name)
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if len(seen) == 0 {
		return nil, fmt.Errorf("introspect: processes: %w", errors.Join(errs...))
	}
	var all []ProcessInfo
	for t, where := range seen {
		p, ok := q.process(q.at("task_struct", t))
		if !ok {
			continue
		}
		p.Seen = where
		// One that has just been forked is not everywhere yet, one that exits not
		// any more: look again before saying that it hides.
		if !slices.Contains(where, InTasks) || !slices.Contains(where, InPIDs) {
			p.Hidden = q.hides(q.at("task_struct", t), p)
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b ProcessInfo) int { return a.PID - b.PID })
	if len(errs) > 0 {
		return all, fmt.Errorf("introspect: %w of processes: %w", ErrIncomplete, errors.Join(errs...))
	}
	return all, ctx.Err()
}

// hides says whether a process that was missing somewhere still is, and lives. A
// record that cannot be walked proves nothing.
func (q *question) hides(t object, p ProcessInfo) bool {
	in := func(walk func(func(object))) bool {
		found := false
		q.again(func() {
			found = false
			walk(func(o object) { found = found || o.addr == t.addr })
		})
		return found
	}
	listed := in(q.tasks)
	numbered := q.err == nil && in(q.pids)
	if q.take() != nil || listed && numbered {
		return false
	}
	alive := t.uint("exit_state") == 0 && t.int("tgid") == p.PID && t.uint("group_leader") == t.addr
	elsewhere := listed || numbered || in(q.tree) || in(q.queued)
	return q.take() == nil && alive && elsewhere
}

// tasks walks the list of all processes: init_task's, which is itself none.
func (q *question) tasks(add func(object)) {
	first := q.variable("task_struct", "init_task")
	for t := range q.list(first.in("tasks", "list_head").addr, maxTasks, "task_struct", "tasks") {
		add(t)
	}
}

// pidTypeTGID is the place of processes among what a number is for
// (include/linux/pid_types.h).
const pidTypeTGID = 1

// pids walks the table of numbers.
func (q *question) pids(add func(object)) {
	const head = 8 // sizeof(struct hlist_head)
	link := q.at("task_struct", 0).field("pid_links").off + pidTypeTGID*2*head
	first := q.at("pid", 0).field("tasks").off + pidTypeTGID*head
	numbers := q.variable("pid_namespace", "init_pid_ns").in("idr", "idr").in("idr_rt", "xarray")
	for pid := range q.xarray(numbers, 2*maxTasks) {
		if node := q.word(pid + first); node != 0 { // none: of a thread, or of a group
			add(q.at("task_struct", node-link))
		}
	}
}

// tree walks the children of each process, from the first.
func (q *question) tree(add func(object)) {
	todo := []object{q.variable("task_struct", "init_task")}
	for n := 0; len(todo) > 0 && q.err == nil; {
		t := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for c := range q.list(t.in("children", "list_head").addr, maxTasks, "task_struct", "sibling") {
			if n++; n > maxTasks {
				q.fail(fmt.Errorf("%w: children without end", ErrWalk))
				return
			}
			add(c)
			todo = append(todo, c)
		}
	}
}

// queued walks the run queues: of what runs and what waits to, the processes.
func (q *question) queued(add func(object)) {
	leader := func(t object) {
		if pid := t.int("tgid"); pid != 0 && q.err == nil { // 0 is a CPU's idle task
			add(t.to("group_leader", "task_struct"))
		}
	}
	for cpu := range q.live.m.CPUs() {
		rq := q.at("rq", q.perCPU("runqueues", cpu))
		if curr := rq.to("curr", "task_struct"); !curr.isNil() {
			leader(curr)
		}
		for t := range q.list(rq.in("cfs_tasks", "list_head").addr, maxTasks, "task_struct", "se.group_node") {
			leader(t)
		}
	}
}

// process reads who a task is. It is false for one that has gone meanwhile.
func (q *question) process(t object) (p ProcessInfo, ok bool) {
	p.Task = Pointer(t.addr)
	p.PID = t.int("tgid")
	p.Comm = t.text("comm")
	p.Threads = t.to("signal", "signal_struct").int("nr_threads")
	if q.take() != nil || p.PID <= 0 || t.addr != t.uint("group_leader") || q.take() != nil {
		return p, false
	}
	part := func(name string, read func()) {
		read()
		if q.take() != nil {
			p.Missing = append(p.Missing, name)
		}
	}
	part("parent", func() { p.PPID = t.to("real_parent", "task_struct").int("tgid") })
	part("credentials", func() {
		cred := t.to("cred", "cred")
		p.UID, p.EUID = uint32(cred.uint("uid.val")), uint32(cred.uint("euid.val"))
	})
	part("state", func() { p.State = q.state(t) })
	part("start", func() {
		p.Started = float64(t.uint(q.first("task_struct", "start_boottime", "real_start_time"))) / 1e9
	})
	part("cpu", func() {
		p.CPU, p.OnCPU = t.int(q.first("task_struct", "thread_info.cpu", "cpu")), t.uint("on_cpu") != 0
	})
	p.Kernel = t.uint("flags")&flagKernelThread != 0
	part("cgroup", func() { p.Cgroup, p.CgroupID = q.cgroup(t) })
	part("namespaces", func() { p.Namespaces = q.namespaces(t) })
	mm := t.to("mm", "mm_struct")
	if q.err == nil && !mm.isNil() && !p.Kernel {
		part("args", func() { p.Args = q.args(mm) })
		part("exe", func() {
			if f := mm.to("exe_file", "file"); !f.isNil() && q.err == nil {
				p.Exe = q.path(f)
			}
		})
	}
	q.take()
	return p, true
}

// flagKernelThread is PF_KTHREAD (include/linux/sched.h).
const flagKernelThread = 0x0020_0000

// state is the letter that /proc/PID/stat has (fs/proc/array.c).
func (q *question) state(t object) string {
	state := t.uint(q.first("task_struct", "__state", "state")) | t.uint("exit_state")
	const idle = 0x402 // TASK_IDLE: waits, and is no load
	if state&idle == idle {
		return "I"
	}
	for bit, letter := range map[uint64]string{0x1: "S", 0x2: "D", 0x4: "T", 0x8: "t", 0x10: "X", 0x20: "Z", 0x40: "P"} {
		if state&bit != 0 && state&0x7f&(bit-1) == 0 {
			return letter
		}
	}
	return "R"
}

// cgroup reads the path and number of a task's cgroup in the unified hierarchy.
func (q *question) cgroup(t object) (path string, id uint64) {
	kn := t.to("cgroups", "css_set").to("dfl_cgrp", "cgroup").to("kn", "kernfs_node")
	id = kn.uint(q.first("kernfs_node", "id", "id.id"))
	parent := q.first("kernfs_node", "parent", "__parent")
	var names []string
	for total := 0; total < maxPath; {
		up := kn.to(parent, "kernfs_node")
		if up.isNil() || q.err != nil {
			return joinUp(names), id
		}
		name := kn.string("name")
		names, total = append(names, name), total+len(name)+1
		kn = up
	}
	q.fail(fmt.Errorf("%w: a cgroup that does not end", ErrWalk))
	return "", 0
}

// namespaces reads the numbers of a task's namespaces.
func (q *question) namespaces(t object) map[string]uint32 {
	ns := make(map[string]uint32)
	proxy := t.to("nsproxy", "nsproxy")
	if !proxy.isNil() { // a process that has exited has none
		for name, n := range map[string]struct{ member, typ string }{
			"uts": {"uts_ns", "uts_namespace"}, "ipc": {"ipc_ns", "ipc_namespace"}, "mnt": {"mnt_ns", "mnt_namespace"},
			"pid": {"pid_ns_for_children", "pid_namespace"}, "net": {"net_ns", "net"}, "cgroup": {"cgroup_ns", "cgroup_namespace"},
			"time": {"time_ns", "time_namespace"},
		} {
			if o := proxy.to(n.member, n.typ); !o.isNil() && q.has(n.typ+".ns.inum") {
				ns[name] = uint32(o.uint("ns.inum"))
			}
		}
	}
	ns["user"] = uint32(t.to("cred", "cred").to("user_ns", "user_namespace").uint("ns.inum"))
	return ns
}

// args reads a process's command line as it is now: programs can change it.
func (q *question) args(mm object) []string {
	start, end := mm.uint("arg_start"), mm.uint("arg_end")
	if q.err != nil || end <= start {
		return nil
	}
	p := make([]byte, min(end-start, maxArgs))
	q.err = q.user(mm).ReadAt(p, start)
	if q.err != nil {
		return nil
	}
	return strings.Split(q.keep(strings.TrimSuffix(string(p), "\x00")), "\x00")
}

// user is a process's memory.
func (q *question) user(mm object) View {
	s, err := q.userSpace(mm)
	if err != nil {
		return nothing{err}
	}
	return view{s.Cached(), q.live.m.Memory()}
}

func (q *question) userSpace(mm object) (pagetable.Space, error) {
	pgd := mm.uint("pgd")
	if err := q.take(); err != nil {
		return pagetable.Space{}, err
	}
	at, err := q.live.space.Translate(q.live.m.Memory(), pgd)
	if err != nil {
		return pagetable.Space{}, fmt.Errorf("%w: %w", ErrNotResident, err)
	}
	return q.live.space.User(at.Addr), nil
}

// nothing is memory that cannot be read.
type nothing struct{ err error }

func (n nothing) ReadAt([]byte, uint64) error { return n.err }

// path is the absolute path of an open file, "(deleted)" after it as /proc has
// it where the file has no name any more.
func (q *question) path(f object) string {
	if q.err != nil {
		return ""
	}
	at, err := q.place(f.addr + q.layout.filePath.off)
	if err != nil {
		q.fail(err)
		return ""
	}
	name, err := q.absolute(at)
	if err != nil {
		q.fail(err)
	}
	return q.keep(name)
}
