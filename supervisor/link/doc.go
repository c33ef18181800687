// Package link is the wire between the host and its supervisor VM.
//
// The supervisor dials [Port] of the host by vsock, once in its life. Both ends show
// a certificate that was made for this VM alone (see [NewCredentials]), in TLS 1.3.
// What follows are calls in both directions, in the frames of guestinit/proto: the
// host's requests, and the orders that the supervisor gives. A caller can call them
// off, and an error comes back as what it was.
//
// Neither end trusts the other's bytes. Frames and calls at a time are bounded, and
// an unknown method is an error.
package link

import (
	"context"
	"encoding/json"
	"io"

	"warder/guestinit/proto"
)

// Port is the vsock port of the host that the supervisor's VM dials. In no other VM
// there is anybody behind it.
const Port = 1025

// The host's requests, with the types of their arguments and results.
const (
	Open      = "open"      // Opening; the first one
	Declare   = "declare"   // Known; before others ask
	Grant     = "grant"     // verify.Grant to a VM that is no service
	Return    = "return"    // Name of such a holder
	Resume    = "resume"    // Starting; before others ask
	List      = "list"      // Page -> Listing
	Show      = "show"      // Name -> services.Status, as all that follow
	Add       = "add"       // Addition -> services.Status
	Remove    = "remove"    // Removal -> services.Status
	Start     = "start"     // Starting -> services.Status, when it runs or does not
	Settle    = "settle"    // Name -> services.Status, when it is not starting any more
	Stop      = "stop"      // Stopping -> services.Status, when it has
	End       = "end"       // Finish -> services.Status, before it has
	Demand    = "demand"    // Demanded -> services.Status, when it runs
	Release   = "release"   // Released
	Wait      = "wait"      // Name -> services.Status, when it holds nothing any more
	Resources = "resources" // -> verify.Balance
	Permit    = "permit"    // Asked
	Ping      = "ping"
	Close     = "close" // returns when all services have stopped
)

// The supervisor's orders. All but Usage are about a service that the host knows.
const (
	Claim    = "claim"    // Name -> verify.Claim
	Boot     = "boot"     // VM -> Booted
	Run      = "run"      // VM: starts its command
	Exited   = "exited"   // VM -> Ending of its command
	Check    = "check"    // VM -> Checked, by its health check
	Ended    = "ended"    // VM: when it has; the error is what became of it
	Destroy  = "destroy"  // Destruction
	Sample   = "sample"   // VM -> sizing.Sample
	Shortage = "shortage" // VM -> proto.Shortage, when its guest is short of something
	Resize   = "resize"   // Sizing
	Usage    = "usage"    // -> Used
	Declared = "declared" // Decided, of a request that declares it
	Removed  = "removed"  // Decided, of one that removes it
	Started  = "started"  // Decided, of one that starts it
	Over     = "over"     // Name: it holds nothing any more
	Changed  = "changed"  // services.Record: what it is from now on
	Sized    = "sized"    // Resized: what it is let have from now on
)

// maxCalls bounds the peer's calls in handling at a time. A service may have
// some: for its VM, its command, its health check, its size, and what ends it.
const maxCalls = 4096

// A Handler answers the peer's calls, each on a goroutine of its own. Its context
// ends when the caller calls the call off, and with the connection.
type Handler func(ctx context.Context, method string, args json.RawMessage) (any, error)

// A Conn is one end. It is safe for concurrent use.
type Conn struct{ conn *proto.Conn }

// NewConn makes an end over a connection whose peer is known.
func NewConn(rwc io.ReadWriteCloser, h Handler) *Conn {
	return &Conn{proto.NewConn(rwc, maxCalls, func(ctx context.Context, method string, args json.RawMessage) (any, error) {
		result, err := h(ctx, method, args)
		if err != nil {
			return nil, encode(err)
		}
		return result, nil
	})}
}

// Serve answers until the connection or ctx ends, and waits for the handlers.
func (c *Conn) Serve(ctx context.Context) error { return c.conn.Serve(ctx) }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.conn.Done() }

// Call calls the peer, and has its result in result unless that is nil. The error is
// [ErrGone] when the connection ended first.
func (c *Conn) Call(ctx context.Context, method string, args, result any) error {
	return decode(c.conn.Call(ctx, method, args, result))
}

// Args reads the arguments of a call.
func Args[T any](args json.RawMessage) (v T, err error) {
	if err = json.Unmarshal(args, &v); err != nil {
		err = proto.Errorf(proto.CodeBadRequest, "%v", err)
	}
	return v, err
}

// Unknown is the error for a method that there is not.
func Unknown(method string) error {
	return proto.Errorf(proto.CodeUnknownMethod, "there is no method %q", method)
}
