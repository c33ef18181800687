package record

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"warder/secmon/event"
)

// Field is one field of a record. Fields of different kinds that read the same of
// an event are the same Field.
type Field struct {
	read func(*event.Event) Value
	hex  bool // its values are of form Hex, all of them
}

// CanHave says whether a value of the field can have a text in it at all.
func (f *Field) CanHave(text string) bool {
	return !f.hex || strings.Trim(text, "0123456789abcdef") == ""
}

// Value is what the field has in an event.
func (f *Field) Value(e *event.Event) Value { return f.read(e) }

// Field gives the field of that name of records of kind k, and whether they
// have it.
func (k Kind) Field(name string) (*Field, bool) {
	if f, ok := fields[k][name]; ok {
		return f, true
	}
	if n, ok := argument(name); ok && k == AuditExecve {
		return &Field{read: func(e *event.Event) Value { return execArg(e, n) }}, true
	}
	if k == AuditLine {
		return &Field{read: func(e *event.Event) Value { return auditField(e.Log.Text, name) }}, true
	}
	return nil, false
}

// Any gives the field of that name of some record of the event that a record
// of kind k was made of: its own, or else one of the event's.
func (k Kind) Any(name string) (*Field, bool) {
	if f, ok := k.Field(name); ok && k != AuditLine {
		return f, true
	}
	if f, ok := fields[Native][name]; ok {
		return f, true
	}
	for _, other := range []Kind{Process, File, Connect, DNS, AuditSyscall, AuditPath} {
		if f, ok := fields[other][name]; ok {
			return f, true
		}
	}
	return k.Field(name)
}

// Fields are the names of the fields of k, sorted. Audit records have more:
// EXECVE those of its arguments, lines of audit logs whatever they say.
func (k Kind) Fields() []string { return slices.Sorted(maps.Keys(fields[k])) }

// Texts are the fields in which keywords are looked for. Numbers are not among
// them: a keyword is a text.
func (k Kind) Texts() []string { return texts[k] }

var texts = [Kinds][]string{
	Process:       {"Image", "CommandLine", "CurrentDirectory", "ParentImage", "ParentCommandLine", "User"},
	File:          {"TargetFilename", "Image", "User"},
	Connect:       {"DestinationHostname", "SourceHostname", "Image", "User"},
	DNS:           {"QueryName", "QueryResults", "Image"},
	AuditSyscall:  {"SYSCALL", "comm", "exe", "UID"},
	AuditExecve:   {"argv"},
	AuditPath:     {"name", "nametype"},
	AuditCwd:      {"cwd"},
	AuditSockaddr: nil,
	AuditLine:     {"message"},
	Log:           {"message"},
	Native:        {"message", "file.path", "process.executable", "process.command_line", "warder.syscall.payload", "warder.payload"},
}

// argument reads the name of an argument of execve: a0, a1, ...
func argument(name string) (n int, ok bool) {
	digits, ok := strings.CutPrefix(name, "a")
	if !ok || digits == "" || len(digits) > 4 {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n >= 0
}

// execArg gives an argument of the program that an execve is about to run.
func execArg(e *event.Event, n int) Value {
	rest := e.Process.Args
	for ; n > 0 && rest != ""; n-- {
		_, rest, _ = strings.Cut(rest, "\x00")
	}
	if rest == "" {
		return Value{}
	}
	arg, _, _ := strings.Cut(rest, "\x00")
	return text(arg)
}

// auditField reads one field of a line as auditd writes it: NAME=VALUE with
// spaces between, values in double quotes, or in single ones around further
// fields.
func auditField(line, name string) Value {
	if name == "message" {
		return text(line)
	}
	for rest := line; ; {
		i := strings.Index(rest, name+"=")
		if i < 0 {
			return Value{}
		}
		starts := i == 0 || strings.IndexByte(" '\x1d", rest[i-1]) >= 0
		value := rest[i+len(name)+1:]
		if !starts {
			rest = value
			continue
		}
		end := " '\x1d"
		if v, ok := strings.CutPrefix(value, `"`); ok {
			value, end = v, `"`
		}
		if j := strings.IndexAny(value, end); j >= 0 {
			value = value[:j]
		}
		if isSyscallArg(line, name) {
			if n, err := strconv.ParseUint(value, 16, 64); err == nil {
				return hex(n)
			}
		}
		return text(value)
	}
}

// isSyscallArg says whether the field is an argument register, which audit
// lines of type SYSCALL have in hexadecimal.
func isSyscallArg(line, name string) bool {
	return len(name) == 2 && name[0] == 'a' && name[1] >= '0' && name[1] <= '3' && strings.HasPrefix(line, "type=SYSCALL ")
}

func utc(nanoseconds int64) time.Time { return time.Unix(0, nanoseconds).UTC() }

// What fields of several kinds read.
var (
	exe             = &Field{read: func(e *event.Event) Value { return text(e.Process.Exe) }}
	commandLine     = &Field{read: func(e *event.Event) Value { return args(e.Process.Args) }}
	directory       = &Field{read: func(e *event.Event) Value { return text(e.Process.Dir) }}
	parentExe       = &Field{read: func(e *event.Event) Value { return text(e.Process.ParentExe) }}
	parentLine      = &Field{read: func(e *event.Event) Value { return args(e.Process.ParentArgs) }}
	user            = &Field{read: func(e *event.Event) Value { return text(e.Process.User) }}
	pid             = &Field{read: func(e *event.Event) Value { return number(uint64(e.Process.PID)) }}
	parent          = &Field{read: func(e *event.Event) Value { return number(uint64(e.Process.Parent)) }}
	vm              = &Field{read: func(e *event.Event) Value { return text(e.VM) }}
	path            = &Field{read: func(e *event.Event) Value { return text(filePath(e)) }}
	syscall         = &Field{read: func(e *event.Event) Value { return text(e.Call.Name) }}
	comm            = &Field{read: func(e *event.Event) Value { return text(e.Process.Name) }}
	uid             = &Field{read: func(e *event.Event) Value { return number(uint64(e.Process.UID)) }}
	euid            = &Field{read: func(e *event.Event) Value { return number(uint64(e.Process.EUID)) }}
	inode           = &Field{read: func(e *event.Event) Value { return number(e.Call.File.Inode) }}
	sourceIP        = net(func(n *event.Net) Value { return address(n.Source.Addr()) })
	sourcePort      = net(func(n *event.Net) Value { return port(n, 0, n.Source) })
	sourceVM        = net(func(n *event.Net) Value { return text(n.SourceVM) })
	destinationIP   = net(func(n *event.Net) Value { return address(n.Destination.Addr()) })
	destinationPort = net(func(n *event.Net) Value { return port(n, 1, n.Destination) })
	destinationHost = net(func(n *event.Net) Value { return text(n.Host) })
	transport       = net(func(n *event.Net) Value { return text(n.Transport) })
	question        = dns(func(d *event.DNS) Value { return text(d.Name) })
	questionType    = dns(func(d *event.DNS) Value { return text(d.Type) })
	answerCode      = dns(func(d *event.DNS) Value { return text(d.Code) })
	answers         = dns(func(d *event.DNS) Value { return text(strings.Join(d.Answers, ";")) })
)

// fields is the taxonomy: the fields of every kind of record.
var fields = [Kinds]map[string]*Field{
	Process: {
		"Image":             exe,
		"CommandLine":       commandLine,
		"CurrentDirectory":  directory,
		"ParentImage":       parentExe,
		"ParentCommandLine": parentLine,
		"User":              user,
		"LogonId":           login,
		"ProcessId":         pid,
		"ParentProcessId":   parent,
		"UtcTime":           when,
		"Computer":          vm,
	},
	File: {
		"TargetFilename": path,
		"Image":          exe,
		"User":           user,
		"ProcessId":      pid,
		"UtcTime":        when,
		"Computer":       vm,
	},
	Connect: {
		"Image":               exe,
		"User":                user,
		"ProcessId":           pid,
		"Protocol":            transport,
		"Initiated":           net(func(n *event.Net) Value { return boolean(n.Initiated) }),
		"SourceIp":            sourceIP,
		"SourcePort":          sourcePort,
		"SourceHostname":      sourceVM,
		"DestinationIp":       destinationIP,
		"DestinationPort":     destinationPort,
		"DestinationHostname": destinationHost,
		"UtcTime":             when,
		"Computer":            vm,
	},
	DNS: {
		"Image":        exe,
		"QueryName":    question,
		"query":        question,
		"record_type":  questionType,
		"QueryStatus":  answerCode,
		"QueryResults": answers,
		"answer":       answers,
		"UtcTime":      when,
		"Computer":     vm,
	},
	AuditSyscall: audit("SYSCALL", map[string]*Field{
		"syscall": syscall,
		"SYSCALL": syscall,
		"a0":      {read: func(e *event.Event) Value { return hex(e.Call.Args[0]) }, hex: true},
		"a1":      {read: func(e *event.Event) Value { return hex(e.Call.Args[1]) }, hex: true},
		"a2":      {read: func(e *event.Event) Value { return hex(e.Call.Args[2]) }, hex: true},
		"a3":      {read: func(e *event.Event) Value { return hex(e.Call.Args[3]) }, hex: true},
		"success": {read: func(e *event.Event) Value { return text(map[bool]string{true: "no", false: "yes"}[e.Call.Denied != 0]) }},
		"pid":     pid,
		"ppid":    parent,
		"uid":     uid,
		"euid":    euid,
		"auid":    login,
		"comm":    comm,
		"exe":     exe,
		"UID":     user,
	}),
	AuditExecve: audit("EXECVE", map[string]*Field{
		"argc": {read: func(e *event.Event) Value { return number(uint64(strings.Count(e.Process.Args, "\x00"))) }},
		"argv": commandLine,
	}),
	AuditPath: audit("PATH", map[string]*Field{
		"name":  path,
		"inode": inode,
		"nametype": {read: func(e *event.Event) Value {
			switch {
			case strings.HasPrefix(e.Call.Name, "unlink") || e.Call.Name == "rmdir":
				return text("DELETE")
			case e.Call.File.Absent:
				return text("CREATE")
			}
			return text("NORMAL")
		}},
	}),
	AuditCwd: audit("CWD", map[string]*Field{
		"cwd": directory,
	}),
	AuditSockaddr: audit("SOCKADDR", map[string]*Field{
		"laddr": destinationIP,
		"lport": destinationPort,
	}),
	AuditLine: {
		"message": {read: func(e *event.Event) Value { return text(e.Log.Text) }},
	},
	Log: {
		"message":  {read: func(e *event.Event) Value { return text(logText(e)) }},
		"program":  {read: func(e *event.Event) Value { return text(Program(e)) }},
		"facility": logField(func(l *event.Log) Value { return text(l.Facility) }),
		"severity": logField(func(l *event.Log) Value { return number(uint64(l.Severity)) }),
		"host":     vm,
	},
	Native: native,
}

// audit adds what all audit records have.
func audit(typ string, more map[string]*Field) map[string]*Field {
	more["type"] = &Field{read: func(*event.Event) Value { return text(typ) }}
	more["node"] = vm
	return more
}

var login = &Field{read: func(e *event.Event) Value {
	if !e.Process.LoggedIn {
		return Value{State: Empty, Form: Number}
	}
	return number(uint64(e.Process.Login))
}}

var when = &Field{read: func(e *event.Event) Value { return Value{State: Present, Form: Time, Time: e.Time} }}

// filePath is the file that an event is about, by its full path where known.
func filePath(e *event.Event) string {
	if p := e.Call.File.Path; p != "" {
		return p
	}
	return e.Call.Path
}

func logText(e *event.Event) string {
	if e.Log == nil {
		return e.Message
	}
	return e.Log.Text
}

func net(f func(*event.Net) Value) *Field {
	return &Field{read: func(e *event.Event) Value {
		if e.Net == nil {
			return Value{}
		}
		return f(e.Net)
	}}
}

// port is that of an end of a flow.
func port(n *event.Net, end int, at netip.AddrPort) Value {
	if n.Transport == event.Vsock {
		return number(uint64(n.Vsock[end].Port))
	}
	return number(uint64(at.Port()))
}

// cid is the address of an end of a flow of vsock.
func cid(n *event.Net, end int) Value {
	if n.Transport != event.Vsock {
		return Value{}
	}
	return number(uint64(n.Vsock[end].CID))
}

func dns(f func(*event.DNS) Value) *Field {
	return net(func(n *event.Net) Value {
		if n.DNS == nil {
			return Value{}
		}
		return f(n.DNS)
	})
}

func logField(f func(*event.Log) Value) *Field {
	return &Field{read: func(e *event.Event) Value {
		if e.Log == nil {
			return Value{}
		}
		return f(e.Log)
	}}
}

// Constant is the value of a field that all records of kind k have in common.
func (k Kind) Constant(name string) (string, bool) {
	if name != "type" || k < AuditSyscall || k > AuditSockaddr {
		return "", false
	}
	return [...]string{"SYSCALL", "EXECVE", "PATH", "CWD", "SOCKADDR"}[k-AuditSyscall], true
}
