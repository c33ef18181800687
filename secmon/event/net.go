package event

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
)

// Net is the flow that an event is about, and what a message of it held. It is
// shared between events and never changed.
type Net struct {
	// Flow is the same for all events about one flow, in every VM and on the
	// network between them; 0 where not known. [FlowID] makes it.
	Flow uint64
	// Transport is tcp, udp, icmp, vsock, ..., or share for files; Application what is spoken over
	// it (dns, http, tls, ssh, ...), "" where not known.
	Transport, Application string
	Source, Destination    netip.AddrPort
	// Vsock are the source and the destination of a flow of vsock, which has no IP addresses.
	Vsock [2]VsockEnd
	// SourceVM and DestinationVM are the ends that are VMs.
	SourceVM, DestinationVM string
	// Host is the destination's name, where it is known.
	Host string
	VLAN uint16
	// Initiated says that the event's VM opened the flow.
	Initiated bool
	// Bytes and Packets count from the source and from the destination.
	Bytes, Packets [2]uint64

	DNS  *DNS
	HTTP *HTTP
	TLS  *TLS
	// Payload is what the message began with, as far as somebody asked for it.
	Payload []byte
}

// VsockEnd is an end of a flow of vsock: the host has CID 2, a VM one from 3 on.
type VsockEnd struct {
	CID  uint32 `json:"cid"`
	Port uint32 `json:"port"`
}

// String is "CID:port".
func (v VsockEnd) String() string { return id(v.CID) + ":" + id(v.Port) }

// Transports that are none of IP's: vsock, and files on a share.
const (
	Vsock = "vsock"
	Share = "share"
)

// Actions of packets: which messages of flows are told.
const (
	DNSQuery     = "dns-query"
	DNSAnswer    = "dns-answer"
	HTTPRequest  = "http-request"
	HTTPResponse = "http-response"
	TLSHello     = "tls-hello"
	SSHBanner    = "ssh-banner"
	Data         = "data" // what a side begins with, whatever it is
	// FileMessage is what one VM wrote to a file on a share and another reads: the sender
	// is who wrote, Call.File the file, Call.Offset and Size say which bytes.
	FileMessage = "file"
)

// Messages are the actions of packets.
var Messages = []string{DNSQuery, DNSAnswer, HTTPRequest, HTTPResponse, TLSHello, SSHBanner, Data, FileMessage}

// DNS is a question and what was answered.
type DNS struct {
	Name    string // without the last dot
	Type    string // A, AAAA, TXT, ...
	Code    string // of the answer: NOERROR, NXDOMAIN, ...; "" for a question
	Answers []string
}

// HTTP is a request, or with a status the answer to it.
type HTTP struct {
	Method, Host, Path, Query, UserAgent string
	Status                               uint16
}

// TLS is a ClientHello.
type TLS struct {
	ServerName string
	ALPN       []string
	JA4        string
}

// Log is a line of a guest's log.
type Log struct {
	Program  string // sshd, cron, ...
	Facility string // auth, daemon, ...
	Severity uint8  // as in syslog: 0 the worst, 7 debugging
	Text     string
}

// FileFlowID is [FlowID] for what is said through a file of the host.
func FileFlowID(device, inode uint64) uint64 {
	var buf [32]byte
	p := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(buf[:0], device), inode)
	return number(append(p, Share...))
}

// VsockFlowID is [FlowID] for a flow of vsock.
func VsockFlowID(a, b VsockEnd) uint64 {
	if b.CID < a.CID || a.CID == b.CID && b.Port < a.Port {
		a, b = b, a
	}
	var buf [32]byte
	p := buf[:0]
	for _, end := range [...]VsockEnd{a, b} {
		p = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(p, end.CID), end.Port)
	}
	return number(append(p, Vsock...))
}

// FlowID numbers a flow by its ends, the same in both directions and wherever it is
// seen; a later flow between the same ports has the same number. It is 0 if an end is
// not known. It has 53 bits, so that readers of JSON to whom numbers are floating
// point have it right.
func FlowID(transport string, a, b netip.AddrPort) uint64 {
	if !a.IsValid() || !b.IsValid() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified() || a.Port() == 0 && b.Port() != 0 || b.Port() == 0 && a.Port() != 0 {
		return 0
	}
	if b.Addr().Unmap().Compare(a.Addr().Unmap()) < 0 || a.Addr().Unmap() == b.Addr().Unmap() && b.Port() < a.Port() {
		a, b = b, a
	}
	var buf [64]byte
	p := buf[:0]
	for _, end := range [...]netip.AddrPort{a, b} {
		ip := end.Addr().As16()
		p = binary.BigEndian.AppendUint16(append(p, ip[:]...), end.Port())
	}
	return number(append(p, transport...))
}

func number(p []byte) uint64 {
	sum := sha256.Sum256(p)
	return max(binary.BigEndian.Uint64(sum[:])>>11, 1)
}
