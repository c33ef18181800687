// Package agent is the guest's end of the control connection: it does what the
// host tells it.
package agent

import (
	"context"
	"encoding/json"
	"net"
	"syscall"
	"time"

	"warder/guestinit/proto"
)

// maxCalls bounds the host's calls in handling at a time.
const maxCalls = 256

// A Dialer opens a connection to the host's port [proto.Port].
type Dialer func(context.Context) (net.Conn, error)

// System is the guest around the agent.
type System interface {
	Setup(proto.Setup) error
	Info() (proto.Info, error)
	SetCPUs(online int) (proto.CPUs, error)
	// PowerOff begins to stop the guest and returns. Its processes get grace
	// to end by themselves.
	PowerOff(reason string, grace time.Duration)
}

// Commands runs programs; *process.Table does. Exited is called when the
// command has ended and its output has been written.
type Commands interface {
	Start(ctx context.Context, s proto.Start, dial func(context.Context, proto.Role) (net.Conn, error), exited func(proto.Status)) (pid int, err error)
	Signal(id uint64, signal syscall.Signal) error
	Kill(id uint64) error
	Resize(id uint64, cols, rows uint16) error
}

// An Agent serves one control connection.
type Agent struct {
	dial     Dialer
	system   System
	commands Commands
	conn     *proto.Conn
}

// Connect dials the host and exchanges hellos.
func Connect(ctx context.Context, dial Dialer, hello proto.Hello, system System, commands Commands) (*Agent, error) {
	nc, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	if err := proto.Greet(nc, hello); err != nil {
		nc.Close()
		return nil, err
	}
	a := &Agent{dial: dial, system: system, commands: commands}
	a.conn = proto.NewConn(nc, maxCalls, a.handle)
	return a, nil
}

// Serve does what the host says until the connection or ctx ends.
func (a *Agent) Serve(ctx context.Context) error { return a.conn.Serve(ctx) }

// Stopping tells the host that the guest is about to power off.
func (a *Agent) Stopping(reason string) error {
	return a.conn.Notify(proto.NoticeStopping, proto.Stopping{Reason: reason})
}

// Short tells the host that the guest is short of a resource.
func (a *Agent) Short(resource string) error {
	return a.conn.Notify(proto.NoticeShortage, proto.Shortage{Resource: resource})
}

func (a *Agent) handle(ctx context.Context, method string, body json.RawMessage) (any, error) {
	switch method {
	case proto.MethodSetup:
		return call(body, func(s proto.Setup) (any, error) { return nil, a.system.Setup(s) })
	case proto.MethodStart:
		return call(body, func(s proto.Start) (any, error) { return a.start(ctx, s) })
	case proto.MethodSignal:
		return call(body, func(s proto.Signal) (any, error) {
			if s.Tree {
				return nil, a.commands.Kill(s.ID)
			}
			return nil, a.commands.Signal(s.ID, syscall.Signal(s.Signal))
		})
	case proto.MethodResize:
		return call(body, func(r proto.Resize) (any, error) { return nil, a.commands.Resize(r.ID, r.Cols, r.Rows) })
	case proto.MethodInfo:
		return a.system.Info()
	case proto.MethodCPUs:
		return call(body, func(c proto.SetCPUs) (any, error) { return a.system.SetCPUs(c.Online) })
	case proto.MethodPowerOff:
		return call(body, func(p proto.PowerOff) (any, error) {
			a.system.PowerOff("the host asked for it", p.Grace)
			return nil, nil
		})
	}
	return nil, proto.Errorf(proto.CodeUnknownMethod, "guest has no method %q", method)
}

func call[T any](body json.RawMessage, f func(T) (any, error)) (any, error) {
	var args T
	if err := json.Unmarshal(body, &args); err != nil {
		return nil, proto.Errorf(proto.CodeBadRequest, "%v", err)
	}
	return f(args)
}

func (a *Agent) start(ctx context.Context, s proto.Start) (any, error) {
	dial := func(ctx context.Context, role proto.Role) (net.Conn, error) {
		conn, err := a.dial(ctx)
		if err != nil {
			return nil, err
		}
		if err := proto.WritePreamble(conn, proto.Preamble{Role: role, Token: s.Token}); err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
	pid, err := a.commands.Start(ctx, s, dial, func(status proto.Status) {
		// Should this fail, the connection has and the host knows.
		a.conn.Notify(proto.NoticeExited, proto.Exited{ID: s.ID, Status: status})
	})
	if err != nil {
		return nil, err
	}
	return proto.Started{PID: pid}, nil
}
