package event

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// event makes the event that a line was written of.
func (l *line) event() (Event, error) {
	e := Event{
		Time: l.Timestamp.UnixNano(), Seq: l.Event.Sequence, VCPU: l.Warder.VCPU,
		Message: l.Message, Lost: l.Warder.Lost,
	}
	name, ours := strings.CutPrefix(l.Event.Dataset, "warder.")
	for k, fixed := range kinds {
		if fixed.Dataset == name {
			e.Kind = k
			if l.Event.Action != fixed.Action && k != Syscall {
				e.Action = l.Event.Action
			}
		}
	}
	if !ours || e.Kind == 0 {
		return Event{}, fmt.Errorf("not an event of warder: event.dataset is %q", l.Event.Dataset)
	}
	if l.Host != nil {
		e.VM = l.Host.Name
	}
	if err := l.process(&e.Process); err != nil {
		return Event{}, err
	}
	if err := l.file(&e.Call.File); err != nil {
		return Event{}, err
	}
	if err := l.call(&e); err != nil {
		return Event{}, err
	}
	var err error
	if e.Net, err = l.net(); err != nil {
		return Event{}, err
	}
	if p := l.Warder.Access; p != nil {
		if e.Access, err = p.access(); err != nil {
			return Event{}, err
		}
	}
	if g := l.Log; g != nil {
		e.Log = &Log{g.Syslog.Program, g.Syslog.Facility.Name, g.Syslog.Severity.Code, g.Original}
	}
	if l.Rule != nil {
		w := &l.Warder
		e.Finding = &Finding{
			RuleID: l.Rule.ID, RuleTitle: l.Rule.Name, Level: w.Level, VMs: w.VMs, Acts: w.Acts, Matched: w.Matched,
			Response: w.Response, Count: w.Count, Excepted: w.Excepted,
		}
		for _, t := range w.Taken {
			e.Finding.Taken = append(e.Finding.Taken, Taken(t))
		}
	}
	return e, nil
}

func (l *line) process(into *Process) error {
	if p := l.Process; p != nil {
		*into = Process{
			PID: p.PID, TID: p.Thread.ID, Parent: p.Parent.PID, Name: p.Name, Exe: p.Executable, Args: joinArgs(p.Args), Dir: p.Dir,
			ParentExe: p.Parent.Executable, ParentArgs: joinArgs(p.Parent.Args),
		}
	}
	if u := l.User; u != nil && u.Effective != nil {
		uid, err := strconv.ParseUint(u.ID, 10, 32)
		euid, err2 := strconv.ParseUint(u.Effective.ID, 10, 32)
		if err != nil || err2 != nil {
			return fmt.Errorf("user.id: %q, %q are not numbers", u.ID, u.Effective.ID)
		}
		into.UID, into.EUID, into.User = uint32(uid), uint32(euid), u.Name
	}
	if l.Warder.Login != nil {
		into.Login, into.LoggedIn = *l.Warder.Login, true
	}
	return nil
}

func joinArgs(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return strings.Join(args, "\x00") + "\x00"
}

func (l *line) file(into *File) error {
	f := l.File
	if f == nil {
		return nil
	}
	*into = File{Path: f.Path, Size: f.Size, FS: l.Warder.FS, Inner: l.Warder.Inner, Absent: l.Warder.Absent}
	if l.Warder.Share != nil {
		into.Share, into.Device = l.Warder.Share.Directory, l.Warder.Share.Device
	}
	if f.Inode != "" {
		n, err := strconv.ParseUint(f.Inode, 10, 64)
		if err != nil {
			return fmt.Errorf("file.inode: %w", err)
		}
		into.Inode = n
	}
	return nil
}

func (l *line) call(e *Event) error {
	s := l.Warder.Syscall
	if s == nil {
		if e.Kind == Syscall {
			return fmt.Errorf("warder.syscall is missing")
		}
		if r := l.Warder.Range; r != nil {
			e.Call.Offset, e.Call.Size, e.Call.Append, e.Call.Payload = r.Offset, r.Size, r.Append, r.Payload
		}
		return nil
	}
	file := e.Call.File
	e.Call = Call{
		Name: s.Name, Number: s.Number, ABI: s.ABI, FD: s.FD, Path: s.Path, File: file, Flags: s.Flags, Offset: s.Offset,
		Append: s.Append, Size: s.Size, Payload: s.Payload, Denied: s.Denied,
	}
	for i, a := range s.Args {
		if a == "" {
			continue
		}
		v, err := strconv.ParseUint(a, 0, 64)
		if err != nil {
			return fmt.Errorf("warder.syscall.args: %w", err)
		}
		e.Call.Args[i] = v
	}
	for _, d := range s.Data {
		if d.Param < 0 || d.Param >= len(e.Call.Data) {
			return fmt.Errorf("warder.syscall.data: no parameter %d", d.Param)
		}
		e.Call.Data[d.Param], e.Call.Read = string(d.Bytes), e.Call.Read|1<<d.Param
	}
	if s.Result != nil {
		e.Call.Returned, e.Call.Result, e.Call.Took = true, *s.Result, l.Event.Duration
	}
	for _, name := range s.Missing {
		i := slices.Index(missingNames[:], name)
		if i < 0 {
			return fmt.Errorf("warder.syscall.missing: unknown name %q", name)
		}
		e.Call.Missing |= 1 << i
	}
	return nil
}

func (l *line) net() (*Net, error) {
	if l.Network == nil || l.Source == nil || l.Destination == nil {
		return nil, nil
	}
	n := &Net{
		Flow: l.Warder.Flow, Transport: l.Network.Transport, Application: l.Network.Protocol,
		SourceVM: l.Source.VM, DestinationVM: l.Destination.VM, Host: l.Destination.Domain, Initiated: l.Warder.Initiated,
		Bytes:   [2]uint64{l.Source.Bytes, l.Destination.Bytes},
		Packets: [2]uint64{l.Source.Packets, l.Destination.Packets}, Payload: l.Warder.Payload,
	}
	for i, end := range []struct {
		name string
		from *ecsEnd
		to   *netip.AddrPort
	}{{"source", l.Source, &n.Source}, {"destination", l.Destination, &n.Destination}} {
		if end.from.Address != "" {
			cid, err := strconv.ParseUint(end.from.Address, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("%s.address: %w", end.name, err)
			}
			n.Vsock[i] = VsockEnd{uint32(cid), end.from.Port}
			continue
		}
		if end.from.IP == "" {
			continue
		}
		a, err := netip.ParseAddr(end.from.IP)
		if err != nil {
			return nil, fmt.Errorf("%s.ip: %w", end.name, err)
		}
		if end.from.Port > math.MaxUint16 {
			return nil, fmt.Errorf("%s.port: %d is beyond those of IP", end.name, end.from.Port)
		}
		*end.to = netip.AddrPortFrom(a, uint16(end.from.Port))
	}
	if v := l.Network.VLAN; v != nil {
		id, err := strconv.ParseUint(v.ID, 10, 12)
		if err != nil {
			return nil, fmt.Errorf("network.vlan.id: %w", err)
		}
		n.VLAN = uint16(id)
	}
	if d := l.DNS; d != nil {
		n.DNS = &DNS{Name: d.Question.Name, Type: d.Question.Type, Code: d.Code}
		for _, a := range d.Answers {
			n.DNS.Answers = append(n.DNS.Answers, a.Data)
		}
	}
	if h := l.HTTP; h != nil {
		n.HTTP = &HTTP{Method: h.Request.Method, Status: h.Response.Status}
		if l.URL != nil {
			n.HTTP.Host, n.HTTP.Path, n.HTTP.Query = l.URL.Domain, l.URL.Path, l.URL.Query
		}
		if l.UserAgent != nil {
			n.HTTP.UserAgent = l.UserAgent.Original
		}
	}
	if t := l.TLS; t != nil {
		n.TLS = &TLS{t.Client.ServerName, t.Client.ALPN, t.Client.JA4}
	}
	return n, nil
}
