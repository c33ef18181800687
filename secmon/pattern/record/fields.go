package record

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"warder/secmon/event"
)

// Field reads one field of a record.
type Field func(*event.Event) Value

// Field gives the field of that name of records of kind k, and whether they
// have it.
func (k Kind) Field(name string) (Field, bool) {
	if f, ok := fields[k][name]; ok {
		return f, true
	}
	if n, ok := argument(name); ok && k == AuditExecve {
		return func(e *event.Event) Value { return execArg(e, n) }, true
	}
	if k == AuditLine {
		return func(e *event.Event) Value { return auditField(e.Log.Text, name) }, true
	}
	return nil, false
}

// Any gives the field of that name of some record of the event that a record
// of kind k was made of: its own, or else one of the event's.
func (k Kind) Any(name string) (Field, bool) {
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

// fields is the taxonomy: the fields of every kind of record.
var fields = [Kinds]map[string]Field{
	Process: {
		"Image":             func(e *event.Event) Value { return text(e.Process.Exe) },
		"CommandLine":       func(e *event.Event) Value { return args(e.Process.Args) },
		"CurrentDirectory":  func(e *event.Event) Value { return text(e.Process.Dir) },
		"ParentImage":       func(e *event.Event) Value { return text(e.Process.ParentExe) },
		"ParentCommandLine": func(e *event.Event) Value { return args(e.Process.ParentArgs) },
		"User":              func(e *event.Event) Value { return text(e.Process.User) },
		"LogonId":           login,
		"ProcessId":         func(e *event.Event) Value { return number(uint64(e.Process.PID)) },
		"ParentProcessId":   func(e *event.Event) Value { return number(uint64(e.Process.Parent)) },
		"UtcTime":           when,
		"Computer":          func(e *event.Event) Value { return text(e.VM) },
	},
	File: {
		"TargetFilename": func(e *event.Event) Value { return text(filePath(e)) },
		"Image":          func(e *event.Event) Value { return text(e.Process.Exe) },
		"User":           func(e *event.Event) Value { return text(e.Process.User) },
		"ProcessId":      func(e *event.Event) Value { return number(uint64(e.Process.PID)) },
		"UtcTime":        when,
		"Computer":       func(e *event.Event) Value { return text(e.VM) },
	},
	Connect: {
		"Image":               func(e *event.Event) Value { return text(e.Process.Exe) },
		"User":                func(e *event.Event) Value { return text(e.Process.User) },
		"ProcessId":           func(e *event.Event) Value { return number(uint64(e.Process.PID)) },
		"Protocol":            net(func(n *event.Net) Value { return text(n.Transport) }),
		"Initiated":           net(func(n *event.Net) Value { return boolean(n.Initiated) }),
		"SourceIp":            net(func(n *event.Net) Value { return address(n.Source.Addr()) }),
		"SourcePort":          net(func(n *event.Net) Value { return number(uint64(n.Source.Port())) }),
		"SourceHostname":      net(func(n *event.Net) Value { return text(n.SourceVM) }),
		"DestinationIp":       net(func(n *event.Net) Value { return address(n.Destination.Addr()) }),
		"DestinationPort":     net(func(n *event.Net) Value { return number(uint64(n.Destination.Port())) }),
		"DestinationHostname": net(func(n *event.Net) Value { return text(n.Host) }),
		"UtcTime":             when,
		"Computer":            func(e *event.Event) Value { return text(e.VM) },
	},
	DNS: {
		"Image":        func(e *event.Event) Value { return text(e.Process.Exe) },
		"QueryName":    dns(func(d *event.DNS) Value { return text(d.Name) }),
		"query":        dns(func(d *event.DNS) Value { return text(d.Name) }),
		"record_type":  dns(func(d *event.DNS) Value { return text(d.Type) }),
		"QueryStatus":  dns(func(d *event.DNS) Value { return text(d.Code) }),
		"QueryResults": dns(func(d *event.DNS) Value { return text(strings.Join(d.Answers, ";")) }),
		"answer":       dns(func(d *event.DNS) Value { return text(strings.Join(d.Answers, ";")) }),
		"UtcTime":      when,
		"Computer":     func(e *event.Event) Value { return text(e.VM) },
	},
	AuditSyscall: audit("SYSCALL", map[string]Field{
		"syscall": func(e *event.Event) Value { return text(e.Call.Name) },
		"SYSCALL": func(e *event.Event) Value { return text(e.Call.Name) },
		"a0":      func(e *event.Event) Value { return hex(e.Call.Args[0]) },
		"a1":      func(e *event.Event) Value { return hex(e.Call.Args[1]) },
		"a2":      func(e *event.Event) Value { return hex(e.Call.Args[2]) },
		"a3":      func(e *event.Event) Value { return hex(e.Call.Args[3]) },
		"success": func(e *event.Event) Value { return text(map[bool]string{true: "no", false: "yes"}[e.Call.Denied != 0]) },
		"pid":     func(e *event.Event) Value { return number(uint64(e.Process.PID)) },
		"ppid":    func(e *event.Event) Value { return number(uint64(e.Process.Parent)) },
		"uid":     func(e *event.Event) Value { return number(uint64(e.Process.UID)) },
		"euid":    func(e *event.Event) Value { return number(uint64(e.Process.EUID)) },
		"auid":    login,
		"comm":    func(e *event.Event) Value { return text(e.Process.Name) },
		"exe":     func(e *event.Event) Value { return text(e.Process.Exe) },
		"UID":     func(e *event.Event) Value { return text(e.Process.User) },
	}),
	AuditExecve: audit("EXECVE", map[string]Field{
		"argc": func(e *event.Event) Value { return number(uint64(strings.Count(e.Process.Args, "\x00"))) },
		"argv": func(e *event.Event) Value { return args(e.Process.Args) },
	}),
	AuditPath: audit("PATH", map[string]Field{
		"name":  func(e *event.Event) Value { return text(filePath(e)) },
		"inode": func(e *event.Event) Value { return number(e.Call.File.Inode) },
		"nametype": func(e *event.Event) Value {
			switch {
			case strings.HasPrefix(e.Call.Name, "unlink") || e.Call.Name == "rmdir":
				return text("DELETE")
			case e.Call.File.Absent:
				return text("CREATE")
			}
			return text("NORMAL")
		},
	}),
	AuditCwd: audit("CWD", map[string]Field{
		"cwd": func(e *event.Event) Value { return text(e.Process.Dir) },
	}),
	AuditSockaddr: audit("SOCKADDR", map[string]Field{
		"laddr": net(func(n *event.Net) Value { return address(n.Destination.Addr()) }),
		"lport": net(func(n *event.Net) Value { return number(uint64(n.Destination.Port())) }),
	}),
	AuditLine: {
		"message": func(e *event.Event) Value { return text(e.Log.Text) },
	},
	Log: {
		"message":  func(e *event.Event) Value { return text(logText(e)) },
		"program":  func(e *event.Event) Value { return text(Program(e)) },
		"facility": logField(func(l *event.Log) Value { return text(l.Facility) }),
		"severity": logField(func(l *event.Log) Value { return number(uint64(l.Severity)) }),
		"host":     func(e *event.Event) Value { return text(e.VM) },
	},
	Native: native,
}

// audit adds what all audit records have.
func audit(typ string, more map[string]Field) map[string]Field {
	more["type"] = func(*event.Event) Value { return text(typ) }
	more["node"] = func(e *event.Event) Value { return text(e.VM) }
	return more
}

func login(e *event.Event) Value {
	if !e.Process.LoggedIn {
		return Value{State: Empty, Form: Number}
	}
	return number(uint64(e.Process.Login))
}

func when(e *event.Event) Value { return Value{State: Present, Form: Time, Time: e.Time} }

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

func net(f func(*event.Net) Value) Field {
	return func(e *event.Event) Value {
		if e.Net == nil {
			return Value{}
		}
		return f(e.Net)
	}
}

func dns(f func(*event.DNS) Value) Field {
	return net(func(n *event.Net) Value {
		if n.DNS == nil {
			return Value{}
		}
		return f(n.DNS)
	})
}

func logField(f func(*event.Log) Value) Field {
	return func(e *event.Event) Value {
		if e.Log == nil {
			return Value{}
		}
		return f(e.Log)
	}
}

// Constant is the value of a field that all records of kind k have in common.
func (k Kind) Constant(name string) (string, bool) {
	if name != "type" || k < AuditSyscall || k > AuditSockaddr {
		return "", false
	}
	return [...]string{"SYSCALL", "EXECVE", "PATH", "CWD", "SOCKADDR"}[k-AuditSyscall], true
}
