package event

import "net/netip"

// Net is the flow that an event is about, and what a message of it held. It is
// shared between events and never changed.
type Net struct {
	// Flow is the same for all events about one flow, in every VM and on the
	// network between them; 0 where not known.
	Flow uint64
	// Transport is tcp, udp, icmp, vsock, ...; Application what is spoken over
	// it (dns, http, tls, ssh, ...), "" where not known.
	Transport, Application string
	Source, Destination    netip.AddrPort
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
