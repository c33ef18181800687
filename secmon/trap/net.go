package trap

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/secmon/syscalls"
)

// transports are IP's protocols by number, as the Elastic Common Schema calls
// them.
var transports = map[uint16]string{
	unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "ipv6-icmp",
	unix.IPPROTO_SCTP: "sctp", unix.IPPROTO_UDPLITE: "udplite", 262: "tcp", // Multipath TCP
}

// socket starts the flow of a call on a socket of IP: Net stays nil for other
// sockets.
func (d *decoder) socket() (introspect.Socket, bool) {
	s, err := d.task.Socket(d.event.Call.FD)
	if err != nil {
		if !errors.Is(err, introspect.ErrNotOpen) && !errors.Is(err, introspect.ErrNoSocket) {
			d.missing(event.MissingFile)
		}
		return s, false
	}
	if s.Family != unix.AF_INET && s.Family != unix.AF_INET6 {
		return s, false
	}
	n := &event.Net{Transport: transports[s.Protocol]}
	if n.Transport == "" {
		switch s.Type {
		case unix.SOCK_STREAM:
			n.Transport = "tcp"
		case unix.SOCK_DGRAM:
			n.Transport = "udp"
		}
	}
	d.event.Net = n
	return s, true
}

// address is the IP address among the call's parameters, if there is one.
func (d *decoder) address() (netip.AddrPort, bool) {
	for i, p := range d.call.Params {
		c := &d.event.Call
		if c.Read&(1<<i) == 0 {
			continue
		}
		raw := c.Data[i]
		switch p.Kind {
		case syscalls.SockAddr:
		case syscalls.MsgHdr:
			raw, _ = syscalls.Message(raw)
		default:
			continue
		}
		a, ok := syscalls.ParseAddress(raw)
		return unmap(a.IP), ok && a.IP.IsValid()
	}
	return netip.AddrPort{}, false
}

// unmap takes an IPv4 address out of the IPv6 one that stands for it.
func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func (d *decoder) connect() {
	s, ok := d.socket()
	switch {
	case ok:
		d.event.Net.Initiated = true
		d.source(s)
		d.event.Net.Destination, _ = d.address()
		d.flow()
	case s.Family == unix.AF_VSOCK:
		d.connectVsock()
	}
}

// connectVsock starts the flow of a connect by vsock. Its own port is in a structure of a
// module, of which nothing is known.
func (d *decoder) connectVsock() {
	for i, p := range d.call.Params {
		if p.Kind != syscalls.SockAddr || d.event.Call.Read&(1<<i) == 0 {
			continue
		}
		if a, ok := syscalls.ParseAddress(d.event.Call.Data[i]); ok && a.Family == unix.AF_VSOCK {
			d.event.Net = &event.Net{Transport: event.Vsock, Initiated: true, Vsock: [2]event.VsockEnd{1: {CID: a.CID, Port: a.Port}}}
		}
	}
}

// flow numbers the flow, if both its ends are known.
func (d *decoder) flow() {
	n := d.event.Net
	n.Flow = event.FlowID(n.Transport, n.Source, n.Destination)
}

// source is the socket's own end, where it has one.
func (d *decoder) source(s introspect.Socket) {
	if s.Local.Port() != 0 {
		d.event.Net.Source = unmap(s.Local)
	}
}

// bind reports the address that is bound to as the flow's destination: there
// those who connect will go.
func (d *decoder) bind() {
	if _, ok := d.socket(); ok {
		d.event.Net.Destination, _ = d.address()
	}
}

func (d *decoder) send() {
	s, ok := d.socket()
	if !ok {
		return
	}
	d.source(s)
	to, given := d.address()
	if !given && s.Remote.Port() != 0 {
		to = unmap(s.Remote)
	}
	d.event.Net.Destination, d.event.Net.Initiated = to, true
	d.flow()
}

func (d *decoder) accept() {
	if s, ok := d.socket(); ok && s.Local.Port() != 0 {
		d.event.Net.Destination = unmap(s.Local)
	}
}
