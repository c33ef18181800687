// Package proto is the wire between a guest's PID 1 and the host: what both
// ends send over vsock, how it is framed and how large it may be.
//
// The guest dials [Port] on the host for every connection. The first bytes of
// each are a [Preamble] that says what the connection is for. One connection
// per guest is the control connection: after a [Hello] in each direction it
// carries calls, replies and notices as JSON in frames of at most [MaxFrame]
// bytes (see [Conn]), the same in both directions. Every other connection is
// one standard stream of one command, raw bytes with a flow control of its
// own, admitted by a token that the host chose and sent on the control
// connection; or any program's question for a secret.
//
// Neither end trusts the other's bytes: frames, counts of calls in flight and
// preambles are bounded by the reader, and an unknown method is an error
// reply, never the end of the connection, so that a newer end can ask an
// older one.
package proto

// Version is the revision of this protocol. Both ends are built from one
// source tree, so they must match exactly.
const Version = 1

// Port is the vsock port on the host (CID 2) that a guest dials.
const Port = 1024

// ServicesPort is the vsock port on the host at which the VM of a service may ask for
// services, itself included, by HTTP: see docs/services.md.
const ServicesPort = 1026
