package decision

import (
	"context"
	"errors"
	"sync"
	"time"

	"warder/guestinit/proto"
	"warder/supervisor/link"
	"warder/supervisor/services"
	"warder/supervisor/sizing"
	"warder/supervisor/verify"
)

// host is the other end as the one that does what a set orders, keeps its journal
// and measures memory.
type host struct{ conn *link.Conn }

// order has the host do something that is not to be given up halfway.
func (h *host) order(method string, args, result any) error {
	return h.conn.Call(context.Background(), method, args, result)
}

func (h *host) Claim(ctx context.Context, name string) (c verify.Claim, err error) {
	return c, h.conn.Call(ctx, link.Claim, link.Name{Name: name}, &c)
}

func (h *host) Boot(ctx context.Context, name string, start int, only bool) (services.VM, error) {
	id := link.VM{Name: name, Start: start, Only: only}
	var b link.Booted
	err := h.conn.Call(ctx, link.Boot, id, &b)
	switch {
	case ctx.Err() != nil:
		// There may be one or not: there is none after this.
		return nil, errors.Join(ctx.Err(), h.order(link.Destroy, link.Destruction{VM: id}, nil))
	case err != nil || !b.There:
		return nil, err
	}
	v := &vm{host: h, id: id, done: make(chan struct{}), shortages: make(chan proto.Shortage, 1)}
	go func() {
		v.ended = h.order(link.Ended, id, nil)
		close(v.done)
	}()
	return v, nil
}

// vm is a VM of the host's.
type vm struct {
	host  *host
	id    link.VM
	done  chan struct{}
	ended error // once done is closed

	listen    sync.Once
	shortages chan proto.Shortage
}

func (v *vm) Run(ctx context.Context) (services.Process, error) {
	if err := v.host.conn.Call(ctx, link.Run, v.id, nil); err != nil {
		return nil, err
	}
	return process{v}, nil
}

func (v *vm) Check(ctx context.Context) (proto.Status, string, error) {
	var c link.Checked
	err := v.host.conn.Call(ctx, link.Check, v.id, &c)
	return c.Status, c.Said, err
}

func (v *vm) Stop(ctx context.Context, grace time.Duration) error {
	d := link.Destruction{VM: v.id, Grace: grace}
	if end, ok := ctx.Deadline(); ok {
		d.Patience = max(0, time.Until(end))
	}
	return v.host.order(link.Destroy, d, nil)
}

func (v *vm) Done() <-chan struct{} { return v.done }

func (v *vm) Ended() error { return v.ended }

func (v *vm) Sample(ctx context.Context) (s sizing.Sample, err error) {
	return s, v.host.conn.Call(ctx, link.Sample, v.id, &s)
}

// Shortages has the last of them, until it is taken.
func (v *vm) Shortages() <-chan proto.Shortage {
	v.listen.Do(func() {
		go func() {
			for {
				var s proto.Shortage
				if v.host.order(link.Shortage, v.id, &s) != nil {
					return // it is gone
				}
				select {
				case v.shortages <- s:
				default:
				}
			}
		}()
	})
	return v.shortages
}

func (v *vm) Resize(ctx context.Context, from, to sizing.Size) error {
	return v.host.conn.Call(ctx, link.Resize, link.Sizing{VM: v.id, From: from, To: to}, nil)
}

// process is a VM's command.
type process struct{ vm *vm }

func (p process) Wait(ctx context.Context) (proto.Status, error) {
	var e link.Ending
	err := p.vm.host.conn.Call(ctx, link.Exited, p.vm.id, &e)
	return e.Status, err
}

// Measure is verify.Meter's. Where the host does not answer there is no memory.
func (h *host) Measure() (map[string]uint64, uint64) {
	var u link.Used
	if h.order(link.Usage, nil, &u) != nil {
		return nil, 0
	}
	return u.Used, u.Available
}

func (h *host) Declared(ctx context.Context, name string) error {
	return h.order(link.Declared, link.Decided{Name: name, Request: requestOf(ctx)}, nil)
}

func (h *host) Removed(ctx context.Context, name string) error {
	return h.order(link.Removed, link.Decided{Name: name, Request: requestOf(ctx)}, nil)
}

func (h *host) Started(ctx context.Context, r services.Record) error {
	return h.order(link.Started, link.Decided{Name: r.Status.Name, Request: requestOf(ctx), Record: &r}, nil)
}

func (h *host) Ended(name string) error { return h.order(link.Over, link.Name{Name: name}, nil) }

// Changed is services.Journal's. A host that does not hear it has gone, and with it
// this supervisor.
func (h *host) Changed(r services.Record) { _ = h.order(link.Changed, r, nil) }

func (h *host) Sized(r services.Record, by services.Sized, why string) {
	_ = h.order(link.Sized, link.Resized{Record: r, By: by, Why: why}, nil)
}
