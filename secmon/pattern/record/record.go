// Package record shows events the way Sigma's log sources do.
//
// A rule is about records of one log source: a process that was created, one
// of the several records that Linux's audit subsystem writes of a system call,
// a line of a log. [Of] says which records an event makes, [Kind.Field] how a
// record's fields are read from the event. The tables in this package are the
// whole mapping from Sigma's taxonomy to ours.
package record

import (
	"strings"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/pattern/sigma"
)

// Kind is what a record is.
type Kind uint8

const (
	Process Kind = iota // category process_creation
	File                // category file_event
	Connect             // category network_connection
	DNS                 // category dns_query
	AuditSyscall
	AuditExecve
	AuditPath
	AuditCwd
	AuditSockaddr
	AuditLine // a line of an audit log, as text
	Log       // a line of another log
	Native    // the event itself, with the field names of its JSON form
	Kinds     // how many there are
)

var names = [Kinds]string{
	"process_creation", "file_event", "network_connection", "dns_query", "audit SYSCALL", "audit EXECVE", "audit PATH",
	"audit CWD", "audit SOCKADDR", "audit", "log", "event",
}

func (k Kind) String() string { return names[k] }

// Record is one event as one log source shows it.
type Record struct {
	Event *event.Event
	Kind  Kind
}

// Of appends the records of an event to buf.
func Of(e *event.Event, buf []Record) []Record {
	add := func(k Kind) { buf = append(buf, Record{e, k}) }
	switch e.Kind {
	case event.Syscall:
		add(AuditSyscall)
		c := &e.Call
		switch c.Name {
		case "execve", "execveat":
			add(AuditExecve)
			add(AuditCwd)
			add(Process)
		case "connect":
			add(AuditSockaddr)
			if isIP(e.Net) {
				add(Connect)
			}
		case "bind", "sendto", "accept", "accept4":
			add(AuditSockaddr)
		}
		if c.Path != "" {
			add(AuditPath)
		}
		if c.File.Absent && c.Flags&unix.O_CREAT != 0 || c.Name == "creat" || c.Name == "mknod" || c.Name == "mknodat" {
			add(File)
		}
	case event.Task:
		if e.Action == event.Ran {
			add(Process)
		}
	case event.FileAct:
		if e.Action == event.Created || e.Action == event.Renamed {
			add(File)
		}
	case event.Flow:
		if e.Action == event.Began && isIP(e.Net) {
			add(Connect)
		}
	case event.Packet:
		if e.Net != nil && e.Net.DNS != nil {
			add(DNS)
		}
	case event.LogLine:
		if e.Log != nil && isAudit(e.Log) {
			add(AuditLine)
		} else if e.Log != nil {
			add(Log)
		}
	case event.Guard:
		add(Log)
	}
	return append(buf, Record{e, Native})
}

// isIP is false of vsock: what Sigma's rules say of addresses is about IP.
func isIP(n *event.Net) bool { return n == nil || n.Transport != event.Vsock }

// isAudit says whether a line has the form of the audit subsystem's.
func isAudit(l *event.Log) bool {
	return strings.HasPrefix(l.Text, "type=") || strings.Contains(l.Program, "audit")
}

// services are the log services of Sigma's Linux taxonomy and the programs
// whose lines they hold. An empty list stands for every program.
var services = map[string][]string{
	"syslog": nil, "auth": {"sshd", "sudo", "su", "login", "systemd-logind", "passwd", "useradd", "usermod", "groupadd", "polkitd", "pkexec"},
	"sshd": {"sshd"}, "sudo": {"sudo"}, "cron": {"cron", "CRON", "crond", "anacron"}, "vsftpd": {"vsftpd"},
	"clamav": {"clamd", "clamav", "freshclam", "clamonacc"}, "guacamole": {"guacd", "guacamole"},
}

// categories are Sigma's categories and the kind of their records.
var categories = map[string]Kind{
	"process_creation": Process, "file_event": File, "network_connection": Connect,
	"dns_query": DNS, "dns": DNS,
}

var auditKinds = []Kind{AuditSyscall, AuditExecve, AuditPath, AuditCwd, AuditSockaddr, AuditLine}

// Selector says which records a log source has.
type Selector struct {
	Kinds []Kind
	// Dataset narrows native records to events of one kind: what the JSON form
	// has in event.dataset, without "warder.".
	Dataset event.Kind
	// programs narrows logs.
	programs []string
}

// Has says whether a record, which is of one of s.Kinds, is one of the source.
func (s *Selector) Has(r Record) bool {
	switch r.Kind {
	case Native:
		return s.Dataset == 0 || r.Event.Kind == s.Dataset
	case Log:
		if s.programs == nil {
			return true
		}
		program := Program(r.Event)
		for _, p := range s.programs {
			if p == program {
				return true
			}
		}
		return false
	}
	return true
}

// Program is the name of the program that wrote a line of a log.
func Program(e *event.Event) string {
	if e.Log == nil {
		return "clamav" // of a guest's antivirus, as Sigma calls it
	}
	return e.Log.Program
}

// Select gives the records of a log source, or says what is wrong with it.
func Select(l sigma.LogSource) (Selector, string) {
	switch {
	case l.Product == "warder":
		if l.Category != "" {
			return Selector{}, "product warder has services and no categories"
		}
		if l.Service == "" {
			return Selector{Kinds: []Kind{Native}}, ""
		}
		k, ok := event.KindOf(l.Service)
		if !ok {
			return Selector{}, "product warder has no service " + l.Service
		}
		return Selector{Kinds: []Kind{Native}, Dataset: k}, ""
	case l.Product != "linux" && l.Product != "":
		return Selector{}, "only events of Linux are seen, not of product " + l.Product
	case l.Category != "" && l.Service != "":
		return Selector{}, "a category and a service at once: there are no such records"
	case l.Category != "":
		k, ok := categories[l.Category]
		if !ok {
			return Selector{}, "there are no events of category " + l.Category + " here"
		}
		return Selector{Kinds: []Kind{k}}, ""
	case l.Service == "auditd":
		return Selector{Kinds: auditKinds}, ""
	case l.Service != "":
		programs, ok := services[l.Service]
		if !ok {
			return Selector{}, "there are no events of service " + l.Service + " here"
		}
		return Selector{Kinds: []Kind{Log}, programs: programs}, ""
	}
	// The whole product.
	all := []Kind{Process, File, Connect, DNS, Log}
	return Selector{Kinds: append(all, auditKinds...)}, ""
}
