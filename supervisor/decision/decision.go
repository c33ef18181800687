// Package decision decides about services for a host that does what is decided.
//
// It is what runs in the supervisor's VM: at one end of a connection it has
// supervisor/services keep services as the host's requests want them, and orders the
// host to do with their VMs what that takes. It has no machine, no file and no
// memory beyond its life: the host keeps the records, and hands them to the next.
package decision

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"sync/atomic"

	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/link"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// pageBytes is how long a page of a list is about, below what a frame takes.
const pageBytes = proto.MaxFrame / 4

// A module is the supervisor of one host.
type module struct {
	host *host
	open atomic.Pointer[books]
}

// books are what is decided on.
type books struct {
	ledger *verify.Ledger
	policy *verify.Policy // nil for none
	inside *verify.Policy // for the VMs of services
	set    *services.Set
}

// Serve decides until the connection or ctx ends. Nothing of what it has ordered
// ends with it.
func Serve(ctx context.Context, conn io.ReadWriteCloser) error {
	m := &module{}
	m.host = &host{link.NewConn(conn, m.handle)}
	err := m.host.conn.Serve(ctx)
	if b := m.open.Load(); b != nil {
		b.set.Close() // no order of it arrives any more
	}
	return err
}

// requestKey is that of the number of a request in its context.
type requestKey struct{}

func requestOf(ctx context.Context) uint64 {
	n, _ := ctx.Value(requestKey{}).(uint64)
	return n
}

var (
	errOpen   = errors.New("this supervisor is open already")
	errClosed = errors.New("this supervisor is not open yet")
)

// handle answers the host's requests.
func (m *module) handle(ctx context.Context, method string, args json.RawMessage) (any, error) {
	switch method {
	case link.Ping:
		return nil, nil
	case link.Open:
		return with(args, m.begin)
	}
	b := m.open.Load()
	if b == nil {
		return nil, errClosed
	}
	switch method {
	case link.Declare:
		return with(args, b.declare)
	case link.Grant:
		return with(args, func(g verify.Grant) (any, error) { return nil, b.ledger.Grant(g.Holder, g.Claim) })
	case link.Return:
		return with(args, func(n link.Name) (any, error) { b.ledger.Return(n.Name); return nil, nil })
	case link.Resume:
		return with(args, func(s link.Starting) (any, error) {
			return nil, b.set.Resume(context.WithValue(ctx, requestKey{}, s.Request), s.Name, s.By)
		})
	case link.List:
		return with(args, b.list)
	case link.Show:
		return named(args, b.set.Status)
	case link.Add:
		return with(args, func(a link.Addition) (any, error) {
			if err := b.set.Add(context.WithValue(ctx, requestKey{}, a.Request), a.Service); err != nil {
				return nil, err
			}
			return status(b.set.Status(a.Service.Name))
		})
	case link.Remove:
		return with(args, func(r link.Removal) (any, error) {
			return status(b.set.Remove(context.WithValue(ctx, requestKey{}, r.Request), r.Name))
		})
	case link.Start:
		return with(args, func(s link.Starting) (any, error) {
			return status(b.set.StartWhenFree(context.WithValue(ctx, requestKey{}, s.Request), s.Name, s.By, s.Patience))
		})
	case link.Settle:
		return named(args, func(name string) (services.Status, error) { return b.set.Settle(ctx, name) })
	case link.Wait:
		return named(args, func(name string) (services.Status, error) { return b.set.Wait(ctx, name) })
	case link.Stop:
		return with(args, func(s link.Stopping) (any, error) {
			return status(b.set.Stop(ctx, s.Name, s.Timeout, s.By))
		})
	case link.End:
		return with(args, func(f link.Finish) (any, error) {
			return status(b.set.End(f.Name, f.Start, f.Began, f.By))
		})
	case link.Demand:
		return with(args, func(d link.Demanded) (any, error) {
			return status(b.set.Demand(context.WithValue(ctx, requestKey{}, d.Request), d.Name, d.Peer, d.Number, d.Begun, d.Patience))
		})
	case link.Release:
		return with(args, func(r link.Released) (any, error) { return nil, b.set.Release(r.Name, r.Number) })
	case link.Resources:
		return b.set.Balance(), nil
	case link.Permit:
		return with(args, func(a link.Asked) (any, error) { return nil, b.permit(a) })
	case link.Close:
		b.set.Close()
		return nil, nil
	}
	return nil, link.Unknown(method)
}

// with answers by a function of the call's arguments.
func with[T any](args json.RawMessage, f func(T) (any, error)) (any, error) {
	v, err := link.Args[T](args)
	if err != nil {
		return nil, err
	}
	return f(v)
}

// named answers with the state of a service.
func named(args json.RawMessage, f func(name string) (services.Status, error)) (any, error) {
	return with(args, func(n link.Name) (any, error) { return status(f(n.Name)) })
}

// status is a service's without its declaration, which the host has.
func status(s services.Status, err error) (any, error) {
	s.Service = declaration.Service{}
	return s, err
}

// begin opens the books.
func (m *module) begin(o link.Opening) (any, error) {
	b := &books{}
	var meter verify.Meter
	if o.Metered {
		meter = m.host
	}
	b.ledger = verify.NewLedger(o.Capacity, meter, o.Headroom)
	b.ledger.Reserve(o.Reserved)
	for _, g := range o.Granted {
		b.ledger.Take(g.Holder, g.Claim)
	}
	if o.File != "" {
		var err error
		if b.policy, err = verify.ParsePolicy(o.File, []byte(o.Policies)); err != nil {
			return nil, err
		}
	}
	if o.Inside {
		b.inside = b.policy
	}
	b.inside = b.inside.WithSelf()
	b.set = services.New(m.host, b.ledger, m.host)
	if !m.open.CompareAndSwap(nil, b) {
		return nil, errOpen
	}
	return nil, nil
}

// declare makes a service known that was declared before.
func (b *books) declare(k link.Known) (any, error) {
	if k.Record != nil {
		return nil, b.set.Adopt(k.Service, k.Added, *k.Record, k.Held)
	}
	return nil, b.set.Declare(k.Service, k.Added)
}

// list gives the services whose names come after another.
func (b *books) list(p link.Page) (any, error) {
	all := b.set.List()
	first := slices.IndexFunc(all, func(s services.Status) bool { return s.Name > p.After })
	if first < 0 {
		return link.Listing{Services: []services.Status{}}, nil
	}
	l := link.Listing{Services: []services.Status{}}
	size := 0
	for i, s := range all[first:] {
		s.Service = declaration.Service{}
		text, err := json.Marshal(s)
		if err != nil {
			return nil, err
		}
		if size += len(text); size > pageBytes && i > 0 {
			l.More = true
			break
		}
		l.Services = append(l.Services, s)
	}
	return l, nil
}

// permit says whether somebody may do something; first of all, for nobody may know
// of a service which ones there are but who may ask for it.
func (b *books) permit(a link.Asked) error {
	policy := b.policy
	ask := verify.Request{Principal: a.Principal, Action: a.Action}
	if a.Inside != "" {
		st, err := b.set.Status(a.Inside)
		if err != nil {
			return err
		}
		policy, ask.Principal = b.inside, verify.Principal{Service: &st.Service}
	}
	if policy == nil {
		return errors.New("there are no policies")
	}
	var unknown error
	if a.Name != "" {
		var st services.Status
		if st, unknown = b.set.Status(a.Name); unknown == nil {
			ask.Service = &st.Service
		}
	}
	if err := policy.Permit(ask); err != nil {
		return err
	}
	return unknown
}
