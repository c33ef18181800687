package record

import (
	"strings"

	"warder/secmon/event"
)

// native are the fields of an event by the names of its JSON form. "vm" and
// "object" are short for what rules about several VMs need most.
var native = map[string]Field{
	"vm":       func(e *event.Event) Value { return text(e.VM) },
	"host":     func(e *event.Event) Value { return text(e.VM) },
	"hostname": func(e *event.Event) Value { return text(e.VM) },
	"object":   func(e *event.Event) Value { return text(Object(e)) },

	"host.name":                 func(e *event.Event) Value { return text(e.VM) },
	"@timestamp":                when,
	"message":                   func(e *event.Event) Value { return text(e.Message) },
	"event.action":              func(e *event.Event) Value { return text(action(e)) },
	"process.pid":               func(e *event.Event) Value { return number(uint64(e.Process.PID)) },
	"process.name":              func(e *event.Event) Value { return text(e.Process.Name) },
	"process.executable":        func(e *event.Event) Value { return text(e.Process.Exe) },
	"process.command_line":      func(e *event.Event) Value { return args(e.Process.Args) },
	"process.working_directory": func(e *event.Event) Value { return text(e.Process.Dir) },
	"process.parent.pid":        func(e *event.Event) Value { return number(uint64(e.Process.Parent)) },
	"process.parent.executable": func(e *event.Event) Value { return text(e.Process.ParentExe) },
	"user.id":                   func(e *event.Event) Value { return number(uint64(e.Process.UID)) },
	"user.effective.id":         func(e *event.Event) Value { return number(uint64(e.Process.EUID)) },
	"user.name":                 func(e *event.Event) Value { return text(e.Process.User) },
	"file.path":                 func(e *event.Event) Value { return text(filePath(e)) },
	"file.inode":                func(e *event.Event) Value { return number(e.Call.File.Inode) },
	"warder.filesystem":         func(e *event.Event) Value { return text(e.Call.File.FS) },
	"warder.share.directory":    func(e *event.Event) Value { return text(e.Call.File.Share) },
	"warder.inner_path":         func(e *event.Event) Value { return text(e.Call.File.Inner) },
	"warder.syscall.name":       func(e *event.Event) Value { return text(e.Call.Name) },
	"warder.syscall.path":       func(e *event.Event) Value { return text(e.Call.Path) },
	"warder.syscall.flags":      func(e *event.Event) Value { return number(uint64(e.Call.Flags)) },
	"warder.syscall.size":       func(e *event.Event) Value { return number(e.Call.Size) },
	"warder.syscall.payload":    func(e *event.Event) Value { return payload(e.Call.Payload) },
	"warder.syscall.arg0":       func(e *event.Event) Value { return number(e.Call.Args[0]) },
	"warder.syscall.arg1":       func(e *event.Event) Value { return number(e.Call.Args[1]) },
	"warder.syscall.arg2":       func(e *event.Event) Value { return number(e.Call.Args[2]) },
	"warder.syscall.arg3":       func(e *event.Event) Value { return number(e.Call.Args[3]) },
	"warder.syscall.arg4":       func(e *event.Event) Value { return number(e.Call.Args[4]) },
	"warder.syscall.arg5":       func(e *event.Event) Value { return number(e.Call.Args[5]) },
	"warder.flow":               net(func(n *event.Net) Value { return number(n.Flow) }),
	"warder.payload":            net(func(n *event.Net) Value { return payload(n.Payload) }),
	"network.transport":         net(func(n *event.Net) Value { return text(n.Transport) }),
	"network.protocol":          net(func(n *event.Net) Value { return text(n.Application) }),
	"source.ip":                 net(func(n *event.Net) Value { return address(n.Source.Addr()) }),
	"source.port":               net(func(n *event.Net) Value { return number(uint64(n.Source.Port())) }),
	"source.bytes":              net(func(n *event.Net) Value { return number(n.Bytes[0]) }),
	"source.vm":                 net(func(n *event.Net) Value { return text(n.SourceVM) }),
	"destination.ip":            net(func(n *event.Net) Value { return address(n.Destination.Addr()) }),
	"destination.port":          net(func(n *event.Net) Value { return number(uint64(n.Destination.Port())) }),
	"destination.bytes":         net(func(n *event.Net) Value { return number(n.Bytes[1]) }),
	"destination.vm":            net(func(n *event.Net) Value { return text(n.DestinationVM) }),
	"destination.domain":        net(func(n *event.Net) Value { return text(n.Host) }),
	"dns.question.name":         dns(func(d *event.DNS) Value { return text(d.Name) }),
	"dns.question.type":         dns(func(d *event.DNS) Value { return text(d.Type) }),
	"dns.response_code":         dns(func(d *event.DNS) Value { return text(d.Code) }),
	"http.request.method":       http(func(h *event.HTTP) Value { return text(h.Method) }),
	"http.response.status_code": http(func(h *event.HTTP) Value { return number(uint64(h.Status)) }),
	"url.domain":                http(func(h *event.HTTP) Value { return text(h.Host) }),
	"url.path":                  http(func(h *event.HTTP) Value { return text(h.Path) }),
	"url.query":                 http(func(h *event.HTTP) Value { return text(h.Query) }),
	"user_agent.original":       http(func(h *event.HTTP) Value { return text(h.UserAgent) }),
	"tls.client.server_name":    tls(func(t *event.TLS) Value { return text(t.ServerName) }),
	"tls.client.ja4":            tls(func(t *event.TLS) Value { return text(t.JA4) }),
	"log.syslog.appname":        logField(func(l *event.Log) Value { return text(l.Program) }),
	"log.original":              logField(func(l *event.Log) Value { return text(l.Text) }),
}

// action is what the JSON form has in event.action.
func action(e *event.Event) string {
	if e.Kind == event.Syscall {
		return e.Call.Name
	}
	return e.Action
}

// Object names the file or flow that an event is about, the same for every VM
// that can reach it; "" where the event is about neither or it is one VM's own.
func Object(e *event.Event) string {
	if f := &e.Call.File; f.Share != "" {
		return strings.TrimSuffix(f.Share, "/") + f.Inner
	}
	return ""
}

func payload(p []byte) Value {
	if len(p) == 0 {
		return Value{State: Empty, Form: Bytes}
	}
	return Value{State: Present, Form: Bytes, Text: stringOf(p)}
}

func http(f func(*event.HTTP) Value) Field {
	return net(func(n *event.Net) Value {
		if n.HTTP == nil {
			return Value{}
		}
		return f(n.HTTP)
	})
}

func tls(f func(*event.TLS) Value) Field {
	return net(func(n *event.Net) Value {
		if n.TLS == nil {
			return Value{}
		}
		return f(n.TLS)
	})
}
