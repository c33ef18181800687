package trap

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/secmon/syscalls"
)

// flowActs are the calls on sockets by what they do with a flow.
var flowActs = map[string]string{
	"connect": event.Connected, "accept": event.Accepted, "accept4": event.Accepted,
	"sendto": event.Sent, "sendmsg": event.Sent, "send": event.Sent, "sendmmsg": event.Sent,
	"write": event.Sent, "writev": event.Sent, "pwritev2": event.Sent, "sendfile": event.Sent, "sendfile64": event.Sent,
	"recvfrom": event.Received, "recvmsg": event.Received, "recv": event.Received, "recvmmsg": event.Received, "recvmmsg_time64": event.Received,
	"read": event.Received, "readv": event.Received, "preadv2": event.Received,
}

// wantsFlow reports whether a client wants to know which flow the call is of.
func (d *decoder) wantsFlow(c *Config) bool {
	n := d.event.Net
	return c.Flow != nil && n != nil && n.Transport != event.Vsock && slices.Contains(c.Flows, d.event.Call.Name)
}

// concerns reports whether a client is to be told of the call: those in Sockets are to be on a
// socket of IP, as far as that could be found out.
func (d *decoder) concerns(c *Config) bool {
	return d.event.Net != nil || d.event.Call.Missing != 0 || !slices.Contains(c.Sockets, d.event.Call.Name)
}

// manyMessages are the calls whose result is a number of messages.
var manyMessages = map[string]bool{"sendmmsg": true, "recvmmsg": true, "recvmmsg_time64": true}

// settled is the event of what a call that has returned did with a flow. Only now is it known
// which one: a connect has its port, an accept its peer.
func (d *decoder) settled() (e event.Event, ok bool) {
	c := &d.event.Call
	action, fd := flowActs[c.Name], c.FD
	switch {
	case action == event.Connected && (c.Result == 0 || c.Result == -int64(unix.EINPROGRESS)):
	case action == event.Accepted && c.Result >= 0:
		fd = int32(c.Result)
	case (action == event.Sent || action == event.Received) && c.Result > 0:
	default:
		return e, false
	}
	s, err := d.task.Socket(fd)
	if err != nil || d.event.Net == nil {
		return e, false
	}
	n := *d.event.Net
	local, remote := unmap(s.Local), unmap(s.Remote)
	n.Initiated = action == event.Connected || action == event.Sent
	if (action == event.Sent || action == event.Received) && !manyMessages[c.Name] {
		n.Bytes[0] = uint64(c.Result)
	}
	switch action {
	case event.Sent:
		if remote.Port() == 0 {
			remote = n.Destination
		}
	case event.Received:
		if remote.Port() == 0 {
			remote = d.sender()
		}
	}
	n.Source, n.Destination = local, remote
	if !n.Initiated {
		n.Source, n.Destination = remote, local
	}
	n.Flow = event.FlowID(n.Transport, n.Source, n.Destination)
	return event.Event{Time: time.Now().UnixNano(), Kind: event.Flow, Action: action, VCPU: int32(d.cpu.ID()), Process: d.event.Process, Net: &n}, true
}

// sender is who sent what a call has received, if the call's caller asked for that.
func (d *decoder) sender() netip.AddrPort {
	c := &d.event.Call
	for i, p := range d.call.Params {
		at := d.value(i)
		if at == 0 || p.Kind != syscalls.OutAddr && p.Kind != syscalls.OutMsg {
			continue
		}
		if c.Read&(1<<i) == 0 {
			d.result(i, p, at, uint64(c.Result))
		}
		raw := c.Data[i]
		if p.Kind == syscalls.OutMsg {
			raw, _ = syscalls.Message(raw)
		}
		if a, ok := syscalls.ParseAddress(raw); ok && a.IP.IsValid() {
			return unmap(a.IP)
		}
	}
	return netip.AddrPort{}
}

// onSocket reports whether the descriptor of a call for files of all kinds is a socket.
func (d *decoder) onSocket() bool { return d.open && d.file.FS == introspect.SocketFS }

// get starts the flow of such a call that receives, put that of one that sends.
func (d *decoder) get() {
	if d.onSocket() {
		d.receive()
	}
}

func (d *decoder) put() {
	if d.onSocket() {
		d.send()
	}
}

// receive starts the flow of a call that receives.
func (d *decoder) receive() {
	s, ok := d.socket()
	if !ok {
		return
	}
	if s.Local.Port() != 0 {
		d.event.Net.Destination = unmap(s.Local)
	}
	if s.Remote.Port() != 0 {
		d.event.Net.Source = unmap(s.Remote)
		d.flow()
	}
}
