package event

import "reflect"

var (
	eventSize  = int(reflect.TypeFor[Event]().Size())
	accessSize = int(reflect.TypeFor[Access]().Size())
	netSize    = int(reflect.TypeFor[Net]().Size())
	partSize   = int(reflect.TypeFor[DNS]().Size() + reflect.TypeFor[HTTP]().Size() + reflect.TypeFor[TLS]().Size())
)

// Bytes is how much memory the event takes with all that a guest has a say in:
// what keeps events counts by it. Strings that events share count in each.
func (e *Event) Bytes() int {
	p, c := &e.Process, &e.Call
	n := eventSize + len(e.Message) +
		len(p.Name) + len(p.Exe) + len(p.Args) + len(p.Dir) + len(p.User) + len(p.ParentExe) + len(p.ParentArgs) +
		len(c.Path) + len(c.File.Path) + len(c.File.Inner) + cap(c.Payload)
	for _, d := range c.Data {
		n += len(d)
	}
	if a := e.Access; a != nil {
		n += accessSize + len(a.Name) + len(a.OldSymbol) + len(a.Symbol) + len(a.Data) + len(a.PCSymbol)
	}
	if e.Log != nil {
		n += len(e.Log.Program) + len(e.Log.Facility) + len(e.Log.Text)
	}
	if e.Net != nil {
		n += e.Net.bytes()
	}
	return n
}

func (n *Net) bytes() int {
	size := netSize + partSize + len(n.Host) + cap(n.Payload)
	if d := n.DNS; d != nil {
		size += len(d.Name)
		for _, a := range d.Answers {
			size += len(a)
		}
	}
	if h := n.HTTP; h != nil {
		size += len(h.Method) + len(h.Host) + len(h.Path) + len(h.Query) + len(h.UserAgent)
	}
	if t := n.TLS; t != nil {
		size += len(t.ServerName) + len(t.JA4)
		for _, a := range t.ALPN {
			size += len(a)
		}
	}
	return size
}
