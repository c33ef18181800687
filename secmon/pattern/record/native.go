package record

import (
	"strings"

	"warder/secmon/event"
)

// native are the fields of an event by the names of its JSON form. "vm" and
// "object" are short for what rules about several VMs need most.
var native = map[string]*Field{
	"vm":       vm,
	"host":     vm,
	"hostname": vm,
	"object":   {read: func(e *event.Event) Value { return text(Object(e)) }},

	"host.name":                 vm,
	"@timestamp":                when,
	"message":                   {read: func(e *event.Event) Value { return text(e.Message) }},
	"event.action":              {read: func(e *event.Event) Value { return text(action(e)) }},
	"process.pid":               pid,
	"process.name":              comm,
	"process.executable":        exe,
	"process.command_line":      commandLine,
	"process.working_directory": directory,
	"process.parent.pid":        parent,
	"process.parent.executable": parentExe,
	"user.id":                   uid,
	"user.effective.id":         euid,
	"user.name":                 user,
	"file.path":                 path,
	"file.inode":                inode,
	"warder.filesystem":         {read: func(e *event.Event) Value { return text(e.Call.File.FS) }},
	"warder.share.directory":    {read: func(e *event.Event) Value { return text(e.Call.File.Share) }},
	"warder.inner_path":         {read: func(e *event.Event) Value { return text(e.Call.File.Inner) }},
	"warder.syscall.name":       syscall,
	"warder.syscall.path":       {read: func(e *event.Event) Value { return text(e.Call.Path) }},
	"warder.syscall.flags":      {read: func(e *event.Event) Value { return number(uint64(e.Call.Flags)) }},
	"warder.syscall.size":       {read: func(e *event.Event) Value { return number(e.Call.Size) }},
	"warder.syscall.payload":    {read: func(e *event.Event) Value { return payload(e.Call.Payload) }},
	"warder.syscall.arg0":       {read: func(e *event.Event) Value { return number(e.Call.Args[0]) }},
	"warder.syscall.arg1":       {read: func(e *event.Event) Value { return number(e.Call.Args[1]) }},
	"warder.syscall.arg2":       {read: func(e *event.Event) Value { return number(e.Call.Args[2]) }},
	"warder.syscall.arg3":       {read: func(e *event.Event) Value { return number(e.Call.Args[3]) }},
	"warder.syscall.arg4":       {read: func(e *event.Event) Value { return number(e.Call.Args[4]) }},
	"warder.syscall.arg5":       {read: func(e *event.Event) Value { return number(e.Call.Args[5]) }},
	"warder.range.offset":       {read: func(e *event.Event) Value { return number(uint64(max(e.Call.Offset, 0))) }},
	"warder.range.size":         {read: func(e *event.Event) Value { return number(e.Call.Size) }},
	"warder.range.payload":      {read: func(e *event.Event) Value { return payload(e.Call.Payload) }},
	"warder.flow":               net(flow),
	"warder.payload":            net(func(n *event.Net) Value { return payload(n.Payload) }),
	"source.address":            net(func(n *event.Net) Value { return cid(n, 0) }),
	"destination.address":       net(func(n *event.Net) Value { return cid(n, 1) }),
	"network.community_id": net(func(n *event.Net) Value {
		return text(event.CommunityID(n.Transport, n.Source, n.Destination))
	}),
	"network.transport":         transport,
	"network.protocol":          net(func(n *event.Net) Value { return text(n.Application) }),
	"source.ip":                 sourceIP,
	"source.port":               sourcePort,
	"network.vlan.id":           net(func(n *event.Net) Value { return number(uint64(n.VLAN)) }),
	"source.bytes":              net(func(n *event.Net) Value { return number(n.Bytes[0]) }),
	"source.packets":            net(func(n *event.Net) Value { return number(n.Packets[0]) }),
	"source.vm":                 sourceVM,
	"destination.ip":            destinationIP,
	"destination.port":          destinationPort,
	"destination.bytes":         net(func(n *event.Net) Value { return number(n.Bytes[1]) }),
	"destination.packets":       net(func(n *event.Net) Value { return number(n.Packets[1]) }),
	"destination.vm":            net(func(n *event.Net) Value { return text(n.DestinationVM) }),
	"destination.domain":        destinationHost,
	"dns.question.name":         question,
	"dns.question.type":         questionType,
	"dns.response_code":         answerCode,
	"dns.answers.data":          answers,
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

// flow is the flow's number; one that is not known is none to group by.
func flow(n *event.Net) Value {
	if n.Flow == 0 {
		return Value{State: Empty, Form: Number}
	}
	return number(n.Flow)
}

func payload(p []byte) Value {
	if len(p) == 0 {
		return Value{State: Empty, Form: Bytes}
	}
	return Value{State: Present, Form: Bytes, Text: stringOf(p)}
}

func http(f func(*event.HTTP) Value) *Field {
	return net(func(n *event.Net) Value {
		if n.HTTP == nil {
			return Value{}
		}
		return f(n.HTTP)
	})
}

func tls(f func(*event.TLS) Value) *Field {
	return net(func(n *event.Net) Value {
		if n.TLS == nil {
			return Value{}
		}
		return f(n.TLS)
	})
}
