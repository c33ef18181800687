package pattern

import (
	"slices"

	"warder/secmon/event"
	"warder/secmon/pattern/detect"
	"warder/secmon/pattern/record"
	"warder/secmon/pattern/sigma"
	"warder/secmon/pattern/splice"
)

// Needs is what a library has to see.
type Needs struct {
	// Syscalls are the names of the system calls, sorted; By are the rules that
	// need one.
	Syscalls []string
	By       map[string][]*Rule
	// Flows are those calls among them of which it is wanted which flow they have to do with:
	// actions of flows, as connect and accept.
	Flows []string
	// Sockets are those among Flows that are wanted for nothing else: only on sockets of IP.
	Sockets []string
	// Payload is how many bytes of what a call writes to a share are looked at.
	Payload int
	// Message is how many bytes are looked at of what a message of a flow between
	// VMs holds; 0 for none.
	Message int
	// Share is how many bytes are looked at of what is written to a share, and of what is
	// read there, as the share's server sees it; 0 for none.
	Share int
	// Process says that rules look at more of a process than its numbers and
	// name: its program, arguments, directory, parent.
	Process bool
	// Open are the rules that would have to see every system call; they are
	// evaluated on those that are seen.
	Open []*Rule
}

// The system calls that the records of Sigma's log sources are made of.
var (
	execCalls   = []string{"execve", "execveat"}
	createCalls = []string{"creat", "mknod", "mknodat", "open", "openat", "openat2"}
	pathCalls   = []string{
		"chmod", "chown", "creat", "fchmodat", "fchownat", "link", "linkat", "mkdir", "mkdirat", "mknod", "mknodat", "open", "openat", "openat2",
		"rename", "renameat", "renameat2", "rmdir", "symlink", "symlinkat", "truncate", "unlink", "unlinkat", "utimensat",
	}
	connectCalls = []string{"connect"}
	flowCalls    = map[string][]string{
		event.Connected: {"connect"}, event.Accepted: {"accept", "accept4"},
		event.Sent:     {"pwritev2", "send", "sendfile", "sendfile64", "sendmmsg", "sendmsg", "sendto", "write", "writev"},
		event.Received: {"preadv2", "read", "readv", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg"},
	}
	addressCalls = []string{"accept", "accept4", "bind", "connect", "sendto"}
)

// Needs tells what has to be reported for the rules to work.
func (l *Library) Needs() Needs {
	var n Needs
	n.By = make(map[string][]*Rule)
	n.Syscalls, n.Payload = splice.New(l.splices, splice.Limits{}).Needs()
	for _, s := range l.splices {
		for _, act := range slices.Concat(s.Splice.Parts, s.Splice.Triggers) {
			if splice.IsShare(act) {
				n.Share = splice.MaxPayload
			} else if !splice.IsMessage(act) {
				n.add(l.rules[s.Rule], act)
			} else if s.Splice.Content == "warder.payload" {
				n.Message = maxMessage
			}
		}
	}
	for i, d := range l.detections {
		if d.excepted {
			continue
		}
		r := l.Rules[d.rule]
		for _, k := range l.program.Kinds(i) {
			var calls []string
			switch k {
			case record.Process, record.AuditExecve, record.AuditCwd:
				calls, n.Process = execCalls, true
			case record.File:
				calls = createCalls
			case record.AuditPath:
				calls = pathCalls
			case record.Connect:
				calls = connectCalls
			case record.AuditSockaddr:
				calls = addressCalls
			case record.AuditSyscall, record.Native:
				if k == record.Native && aboutMessages(r) && detect.LooksAt(r.Detection.Expr, "warder.payload") {
					n.Message = maxMessage
				}
				if k == record.Native && r.Source.Service == "flow" {
					n.flows(l.Rules[d.rule], r.Detection.Expr)
				}
				if k == record.Native && aboutShares(r) {
					n.Share = max(n.Share, maxMessage)
				}
				if k == record.Native && !aboutSyscalls(r) {
					continue
				}
				var ok bool
				if calls, ok = detect.Values(r.Detection.Expr, "SYSCALL", "syscall", "warder.syscall.name", "event.action"); !ok {
					n.Open = append(n.Open, r)
				}
				n.Process = true
			}
			n.Syscalls = append(n.Syscalls, calls...)
			for _, call := range calls {
				n.add(r, call)
			}
		}
	}
	slices.Sort(n.Flows)
	n.Flows = slices.Compact(n.Flows)
	n.Sockets = slices.DeleteFunc(slices.Clone(n.Flows), func(call string) bool { return slices.Contains(n.Syscalls, call) })
	n.Syscalls = append(n.Syscalls, n.Sockets...)
	slices.Sort(n.Syscalls)
	n.Syscalls = slices.Compact(n.Syscalls)
	return n
}

// flows notes which actions of processes a rule on flows looks at.
func (n *Needs) flows(r *Rule, e sigma.Expr) {
	actions, ok := detect.Values(e, "event.action")
	if !ok {
		return // what the network tells is what there is
	}
	for _, a := range actions {
		calls := flowCalls[a]
		n.Flows = append(n.Flows, calls...)
		for _, call := range calls {
			n.Process = true
			n.add(r, call)
		}
	}
}

// add notes that a rule needs a call.
func (n *Needs) add(r *Rule, call string) {
	if !slices.Contains(n.By[call], r) {
		n.By[call] = append(n.By[call], r)
	}
}

// aboutSyscalls says whether a rule on events themselves is about system calls.
func aboutSyscalls(r *Rule) bool {
	return r.Source.Service == "" || r.Source.Service == "syscall"
}

// maxMessage is how much of a message rules can look at: what says which
// protocol it is and what it is about stands at its beginning.
const maxMessage = 1024

// aboutShares says whether a rule on events themselves is about what is done to files on
// shares.
func aboutShares(r *Rule) bool { return r.Source.Service == "file" }

// aboutMessages says whether a rule on events themselves is about messages of flows.
func aboutMessages(r *Rule) bool { return r.Source.Service == "" || r.Source.Service == "packet" }
