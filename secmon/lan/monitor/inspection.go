package monitor

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"warder/secmon/event"
	"warder/secmon/lan"
	"warder/secmon/lan/app"
	"warder/secmon/lan/flow"
	"warder/secmon/lan/packet"
	"warder/secmon/lan/stream"
)

// inspection is what is being learned of a flow, from what each side says.
type inspection struct {
	halves   [2]stream.Half
	verdicts [2]app.Verdict
	begun    [2]bool // something was said
	told     [2]bool // what it began with, to rules
	exchange app.Exchange
	said     [2]uint32 // bytes of vsock, modulo 2^32
}

// stop gives back what is held.
func (in *inspection) stop() {
	in.halves[0].Stop()
	in.halves[1].Stop()
}

// maxDatagram is how much of a datagram is looked at. Messages of DNS have up to
// 1232 bytes, or 4096 where somebody insists.
const maxDatagram = 4096

// read takes in what a frame of a flow carries. The flow is locked.
func (t *turn) read(f *lan.Flow, in *inspection, d int) {
	h := t.h
	if h.Fragment {
		return
	}
	payload := stream.Pieces{Head: t.s.Frame.Head, Body: t.s.Frame.Body}
	if f.Protocol == packet.UDP {
		t.datagram(f, in, d, payload)
		return
	}
	if half := &in.halves[d]; half.Memory == nil {
		half.Memory = t.machine(vm(t.s.From)).memory // who says it pays for it
	}
	seq := h.Seq
	if h.Flags&packet.SYN != 0 {
		seq++
		in.halves[d].Start(seq)
	}
	if in.halves[d].Add(seq, payload, h.Payload, h.PayloadLen) {
		t.segment(f, in, d)
	}
	if f.State == flow.Reset || in.halves[0].Over() && in.halves[1].Over() {
		of(f).forget()
	}
}

// datagram reads a datagram of UDP.
func (t *turn) datagram(f *lan.Flow, in *inspection, d int, payload stream.Pieces) {
	n := min(t.h.PayloadLen, maxDatagram)
	var p []byte
	if t.h.Payload+n <= len(payload.Head) {
		p = payload.Head[t.h.Payload : t.h.Payload+n]
	} else {
		p = payload.Append(make([]byte, 0, n), t.h.Payload, n)
	}
	t.first(f, in, d, p)
	if of(f).app == "" && !in.begun[d] {
		if protocol, v := app.Recognise(packet.UDP, d, p); v == app.Yes {
			t.recognised(f, protocol)
		}
	}
	in.begun[d] = true
	switch {
	case of(f).app == app.DNS:
		t.dns(f, d, p)
	case in.begun[0] && in.begun[1] || of(f).app != "" && t.message.Load() == 0:
		of(f).forget()
	}
}

// segment reads what one side of a connection has said and nobody has read.
func (t *turn) segment(f *lan.Flow, in *inspection, d int) {
	half := &in.halves[d]
	defer func() {
		if !half.Over() {
			half.Settle()
		}
	}()
	t.first(f, in, d, half.Unread())
	if of(f).app == "" {
		protocol, v := app.Recognise(packet.TCP, d, half.Unread())
		in.verdicts[d] = v
		switch {
		case v == app.Yes:
			t.recognised(f, protocol)
		case v == app.No:
			in.halves[d].Stop()
			return
		default:
			return
		}
		// What the other side has said could not be read until now.
		if other := &in.halves[1-d]; len(other.Unread()) > 0 {
			t.speak(f, in, 1-d)
		}
	}
	t.speak(f, in, d)
}

// speak reads a side by the protocol that it speaks.
func (t *turn) speak(f *lan.Flow, in *inspection, d int) {
	half := &in.halves[d]
	for !half.Over() && len(half.Unread()) > 0 {
		p := half.Unread()
		used, skip := 0, int64(0)
		switch of(f).app {
		case app.HTTP:
			var head *app.Head
			var ok bool
			head, used, skip, ok = in.exchange.Next(d, p)
			if !ok {
				t.lostHTTP(f, p)
				half.Stop()
				return
			}
			if head != nil {
				t.http(f, d, head)
			}
		case app.DNS:
			if len(p) < 2 {
				return
			}
			n := 2 + int(binary.BigEndian.Uint16(p))
			if len(p) < n {
				return
			}
			t.dns(f, d, p[2:n])
			used = n
		case app.TLS:
			hello, more := app.ReadHello(p)
			if hello != nil {
				n := netOf(f)
				n.TLS = &event.TLS{ServerName: hello.ServerName, ALPN: hello.ALPN, JA4: hello.JA4}
				n.Host = hello.ServerName
				t.says(f, d, event.TLSHello, n)
			}
			if !more || d != 0 {
				in.stop()
				return
			}
		case app.SSH:
			banner := app.Banner(p)
			if banner != "" {
				e := t.says(f, d, event.SSHBanner, netOf(f))
				e.Message = banner
			}
			if banner != "" || bytes.IndexByte(p, '\n') >= 0 || len(p) >= app.Decisive {
				half.Stop()
				return
			}
		default:
			in.stop()
			return
		}
		if used == 0 && skip == 0 {
			return // more has to come
		}
		half.Use(used, skip)
	}
}

// says appends the event of a message that side d has sent.
func (t *turn) says(f *lan.Flow, d int, action string, n *event.Net) *event.Event {
	n.Initiated = d == 0
	t.events = append(t.events, event.Event{Time: t.now, Kind: event.Packet, Action: action, VM: of(f).vms[d], Net: n})
	return &t.events[len(t.events)-1]
}

// first tells rules what a side begins with, if they look at that.
func (t *turn) first(f *lan.Flow, in *inspection, d int, p []byte) {
	want := int(t.message.Load())
	if want == 0 || in.told[d] || len(p) == 0 {
		return
	}
	in.told[d] = true
	n := netOf(f)
	n.Payload = bytes.Clone(p[:min(len(p), want)])
	t.says(f, d, event.Data, n)
}

// recognised tells which protocol a flow is, and whether it belongs there.
func (t *turn) recognised(f *lan.Flow, p app.Protocol) {
	of(f).app = p
	switch p {
	case app.HTTP, app.TLS, app.SSH, app.DNS: // their messages tell
	default:
		t.events = append(t.events, event.Event{Time: t.now, Kind: event.Flow, Action: event.Changed, VM: of(f).vms[0], Net: netOf(f)})
	}
	if f.VLAN != vsockVLAN && app.Misplaced(p, f.DstPort) && of(f).vms[0] != "" {
		what := fmt.Sprintf("speaks %s to port %d", p, f.DstPort)
		if at := app.At(f.DstPort); at != "" {
			what += ", where " + string(at) + " belongs"
		}
		t.events = t.machine(of(f).vms[0]).does(t.events, t.now, wrongPort, what, netOf(f))
	}
}

func (t *turn) dns(f *lan.Flow, d int, p []byte) {
	m, ok := app.ReadDNS(p)
	if !ok {
		return
	}
	n := netOf(f)
	n.DNS = &event.DNS{Name: m.Name, Type: m.Type, Code: m.Code, Answers: m.Answers}
	action := event.DNSQuery
	if m.Answer {
		action = event.DNSAnswer
	}
	t.says(f, d, action, n)
	if !m.Answer && of(f).vms[d] != "" {
		x := t.machine(of(f).vms[d])
		t.events = x.found(t.events, t.now, n, x.Questions(t.now, m.Name))
	}
}

func (t *turn) http(f *lan.Flow, d int, head *app.Head) {
	n := netOf(f)
	n.HTTP = &event.HTTP{Method: head.Method, Host: head.Host, Path: head.Path, Query: head.Query, UserAgent: head.UserAgent, Status: head.Status}
	action := event.HTTPRequest
	if head.Status != 0 {
		action = event.HTTPResponse
	}
	n.Host = head.Host
	t.says(f, d, action, n)
}

// lostHTTP is for a side that speaks HTTP no more, or says a head that is too long.
func (t *turn) lostHTTP(f *lan.Flow, p []byte) {
	if len(p) >= app.MaxHead && of(f).vms[0] != "" {
		what := fmt.Sprintf("a head of HTTP of more than %d bytes", app.MaxHead)
		t.events = t.machine(of(f).vms[0]).does(t.events, t.now, longHead, what, netOf(f))
	}
}
