// Package event defines what warder's security channels report: one type for
// all of them.
//
// An [Event] is a plain value of fixed shape, cheap to make and to pass on. As
// JSON it is one line whose fields carry the names of the Elastic Common
// Schema, so that log collectors understand it. A [Queue] carries events from
// threads that must not wait to readers that may be slow; what does not fit is
// counted, and the count is an event itself.
package event

// Kind says what an event reports and which of its parts are filled in.
type Kind uint8

const (
	// Lifecycle is a machine's start, its end, or traps armed in it: Message.
	Lifecycle Kind = iota + 1
	// Syscall is a system call about to run in a guest: Process, Call.
	Syscall
	// Alert is a pattern that matched: Finding.
	Alert
	// Loss stands for events of one VM that found the queue full: Lost; or, with an
	// Action and a Message, for what the pattern engine could not keep.
	Loss
	// Task is a process that began, ran a program, or ended: Action, Process.
	Task
	// FileAct is something done to a file, by a channel that sees files and not
	// system calls: Action, Process, Call.File.
	FileAct
	// Flow is a connection that began, changed or ended: Action, Process where
	// known, Net.
	Flow
	// Packet is a message of a flow, decoded: Action, Net with what it held.
	Packet
	// Guard is a finding of the protection inside a guest: Action, Message,
	// Process and Call.File where they apply.
	Guard
	// Host is something done to the host's parameters, hardware or files:
	// Action, Process, Call.File or Message. VM is empty where no VM did it.
	Host
	// Introspection is a change of protected data or a difference between a
	// guest's view and ours: Action, Message, Process where known.
	Introspection
	// LogLine is a line of a guest's log: Log.
	LogLine
	// Privileged is something that a guest did to its machine, and that it seldom
	// has a reason for once it has booted: Action, Message, Access.
	Privileged
	// Anomaly is traffic of a VM that hardly has an innocent reason: Action, Message,
	// Net as far as it is about one conversation.
	Anomaly
)

// Actions of tasks, files and flows. Other kinds have words of their channels.
const (
	Began   = "start" // a process by fork, a flow
	Ran     = "exec"  // a process runs another program
	Ended   = "end"
	Created = "creation"
	Changed = "change"
	Removed = "deletion"
	Renamed = "rename"
	Opened  = "access"
	// Of flows, what a process has done with one, when its call has returned: Process, and Net
	// with the flow's number.
	Connected = "connect"
	Accepted  = "accept"
	Sent      = "send"
	Received  = "receive"
	// Of files on a share, as its server sees them: Call.Offset and Size say which bytes, and
	// Payload what is written, or what a file that is read begins with.
	ShareRead     = "share-read"
	ShareWrite    = "share-write"
	ShareTruncate = "share-truncate" // to Size
	ShareCreate   = "share-create"
)

// Event is one report. Strings may be shared between events; nothing in an
// event is changed after it was handed on.
type Event struct {
	Time int64  // nanoseconds since 1970, by the host's clock
	Seq  uint64 // counts the events of one VM, from 1
	Kind Kind
	VM   string
	VCPU int32

	// Action says what was done, for kinds where the kind alone does not.
	Action  string
	Process Process
	Call    Call
	Net     *Net
	Log     *Log
	Access  *Access
	Message string
	Lost    uint64
	Finding *Finding
}

// Process is the task of a guest that acts. It is as the guest's kernel says.
// What is not known is empty.
type Process struct {
	PID    uint32 // of the process
	TID    uint32 // of the thread
	Parent uint32
	UID    uint32
	EUID   uint32
	Name   string // the kernel's comm, at most 15 bytes
	// Exe is the path of the program that the process runs; of an execve, of
	// the one that it is about to run.
	Exe string
	// Args are the program's arguments, each with a NUL behind it, as in
	// /proc/PID/cmdline.
	Args string
	Dir  string // the working directory
	User string // the name that UID has in the guest, where it is known
	// Login is the user id with which the session began, the audit subsystem's
	// auid, if LoggedIn.
	Login    uint32
	LoggedIn bool
	// ParentExe and ParentArgs are those of the process Parent.
	ParentExe, ParentArgs string
}

// Call is a system call: what it was asked to do. It may still fail.
type Call struct {
	Name   string
	Number uint32
	// ABI is how the call came into the kernel: amd64, i386, arm64 or arm.
	ABI  string
	Args [6]uint64
	// Data is what each parameter points to, as far as somebody asked for it; bit n
	// of Read says that Data[n] was read. Paths and strings are without their NUL, each
	// string of a list is with it, other things are the guest's bytes: package
	// syscalls says what each call's parameters are.
	Data [6]string
	Read uint8

	// FD is the file descriptor argument, -1 where the call has none.
	FD int32
	// Path is the path argument as the caller wrote it.
	Path string
	// File is what the descriptor or the path refers to.
	File File
	// Flags are open(2)'s: the argument of openat, or those that the file of
	// FD was opened with.
	Flags uint32
	// Offset is where in the file a write goes, -1 where that is not known.
	// With Append it goes to the file's end instead.
	Offset int64
	Append bool
	// Size is how many bytes a write was asked to write.
	Size uint64
	// Payload is what it writes, from the first byte; shorter than Size when
	// there was more than anybody asked for. Of the execution of a program on
	// a share it is what the file begins with.
	Payload []byte
	// Missing says what could not be read from the guest.
	Missing Missing
	// Denied is the error number with which the call was refused, 0 if it
	// was let through.
	Denied uint16
	// Returned says that the event is of the call's end, and Result what it gave its
	// caller: an error as its negated number.
	Returned bool
	Result   int64
	// Took is how long the call took, in nanoseconds.
	Took int64
}

// File identifies a file. On a share, Share and Inner together name the file
// on the host, and Device and Inode are its numbers there: the same for every
// VM that can reach it.
type File struct {
	Path   string // absolute, in the guest; on the host where no guest's is known
	FS     string // type of the file system
	Share  string // the host's directory, "" for a file of the guest's own
	Inner  string // absolute, inside the share or the file system
	Device uint64 // of the share on the host, 0 elsewhere
	Inode  uint64 // 0 where not known
	// Size is the length in bytes, by the host, of a file on a share; -1 where
	// that is not known.
	Size int64
	// Absent says that nothing had that name when the call was made.
	Absent bool
}

// Missing is a set of things that an event should say and does not, because
// guest memory did not hold them or made no sense.
type Missing uint8

const (
	MissingProcess Missing = 1 << iota // Process
	MissingArgs                        // Args and all that follows from them
	MissingPath                        // Path
	MissingFile                        // File, Flags, Offset
	MissingPayload                     // some or all of Payload
	MissingData                        // some or all of Data
	MissingProgram                     // Exe, Args, Dir or the parent's of Process
)

// missingNames are in the order of the bits.
var missingNames = [...]string{"process", "args", "path", "file", "payload", "data", "program"}

// Names lists what is missing.
func (m Missing) Names() []string {
	var names []string
	for i, n := range missingNames {
		if m&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	return names
}

// Taken is a response as it was carried out on one VM.
type Taken struct {
	Response string
	VM       string
	Detail   string // what was done, where the response alone does not say
	Failed   string // why it was not done, "" where it was
}

// Finding is what an alert says: the pattern that matched, the acts that it
// matched on, and what was done.
type Finding struct {
	RuleID    string
	RuleTitle string
	Level     string // of the rule: informational, low, medium, high, critical
	// VMs lists each VM that took part once, in the order of its first act.
	VMs []string
	// Acts are contributing events in the order of their times, the one that
	// completed the pattern last. Their payloads are cut to what matched. Of
	// very many, those in the middle are left out.
	Acts []Event
	// Matched is what the rule found in the joined parts, one line a pattern.
	Matched []string
	// Response is what the rule asks for, as "block,snapshot".
	Response string
	// Taken is what was done of it besides the alert, and to whom.
	Taken []Taken
	// Count is how many matches this alert stands for, this one included; more
	// than 1 where earlier ones were held back by the rule's throttle. Excepted
	// is how many more of its matches an exception kept quiet. 0 is the same
	// as 1 for events of before there was a count.
	Count    uint64
	Excepted uint64
}
