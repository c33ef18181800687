package trap

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/syscalls"
)

// maxReturns bounds the calls that are under way and whose result is wanted.
// Linux has at most 32,768 tasks unless it is told otherwise.
const maxReturns = 32768

// returns are the calls that are under way and whose result somebody wants, by
// task: each makes one at a time. The return address of the call's handler is made to
// be a hook of ours, as the kernel's own tracer of returns does it. That hook is one at
// which a task that makes a call cannot be with the stack as it was when its call
// began: tracerBegins is called further down.
type returns struct {
	mu    sync.Mutex
	calls map[uint64]*underway
	spare []*underway
}

// underway is a call that has not returned yet.
type underway struct {
	back  uint64 // where its handler returns to
	stack uint64 // the stack's address when it began
	// popped is what the return takes off the stack: on amd64 its address.
	popped uint64
	event  event.Event
	call   *syscalls.Call
	abi    syscalls.ABI
	to     []wanted
}

func (r *returns) pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.calls)
}

// put remembers a call of a task, in place of one that never came back. It gives
// false when there are too many.
func (r *returns) put(task uint64, call underway) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == nil {
		r.calls = make(map[uint64]*underway)
	}
	u := r.calls[task]
	last := len(r.spare) - 1
	switch {
	case u != nil:
	case len(r.calls) >= maxReturns:
		return false
	case last >= 0:
		u, r.spare = r.spare[last], r.spare[:last]
	default:
		u = new(underway)
	}
	to := append(u.to[:0], call.to...)
	*u = call
	u.to = to
	r.calls[task] = u
	return true
}

// forget drops a task's call, if it has one.
func (r *returns) forget(task uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if u := r.calls[task]; u != nil {
		delete(r.calls, task)
		r.spare = append(r.spare, u)
	}
}

// done says that nobody uses what take gave any more.
func (r *returns) done(u *underway) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spare = append(r.spare, u)
}

// take gives the call of a task that is back with this stack, and forgets it.
func (r *returns) take(task, stack uint64) *underway {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.calls[task]
	if u == nil || stack != u.stack+u.popped {
		return nil
	}
	delete(r.calls, task)
	return u
}

// neverReturn are the calls that end their task.
var neverReturn = map[string]bool{"exit": true, "exit_group": true}

// follow has the call that is about to run come back to us, if somebody wants its
// result.
func (h *hooks) follow(d *decoder) {
	if d.armed.begins == nil || !d.found || d.call == nil {
		return
	}
	// Whatever the task called before has ended without coming back.
	h.returns.forget(d.task.Addr())
	if !d.armed.wants.result && !d.armed.wants.flows || d.site.check || neverReturn[d.call.Name] {
		return
	}
	if len(d.results) == 0 {
		return
	}
	u := underway{event: d.event, call: d.call, abi: d.abi, to: d.results}
	back, err := d.cpu.ReturnAddress()
	stack, err2 := d.cpu.StackPointer()
	if u.back, u.stack = back, stack; d.guest.Arch() == "amd64" {
		u.popped = 8
	}
	if err != nil || err2 != nil || !h.returns.put(d.task.Addr(), u) {
		for _, w := range u.to {
			w.client.unfollowed.Add(1)
		}
		return
	}
	if err := d.cpu.SetReturnAddress(d.armed.begins.at); err != nil {
		h.returns.forget(d.task.Addr())
	}
}

// refused reports the result of a call that does not run.
func (h *hooks) refused(d *decoder, errno unix.Errno) {
	if !d.armed.wants.result || d.site.check || d.call == nil {
		return
	}
	e := d.event
	e.Call.Denied = uint16(errno)
	e.Call.Returned, e.Call.Result = true, -int64(errno)
	for _, w := range d.results {
		if w.client.cfg.Result != nil {
			e.VM, e.Seq = w.client.cfg.VM, w.seq
			w.client.cfg.Result(e)
		}
	}
}

// returned reports a call that has come back, and says where it goes on. It gives
// false for whoever comes there otherwise.
func (h *hooks) returned(a *armed, cpu CPU) (back uint64, ok bool) {
	d := a.decoder(h, cpu)
	if !d.findTask() {
		return 0, false
	}
	stack, err := cpu.StackPointer()
	if err != nil {
		return 0, false
	}
	u := h.returns.take(d.task.Addr(), stack)
	if u == nil {
		return 0, false
	}
	defer h.returns.done(u)
	result, err := cpu.Result()
	if err != nil {
		return u.back, true
	}
	d.event, d.call, d.abi = u.event, u.call, u.abi
	c := &d.event.Call
	c.Returned, c.Result = true, int64(result)
	if d.abi.Compat() {
		c.Result = int64(int32(result))
	}
	c.Took = time.Now().UnixNano() - d.event.Time
	if a.wants.arguments {
		d.written()
	}
	h.tellFlow(a, d, u)
	for _, w := range u.to {
		if !slices.Contains(a.clients, w.client) || w.client.cfg.Result == nil {
			continue // it has left meanwhile, or wants to know the flow alone
		}
		e := d.event
		e.VM, e.Seq, e.VCPU = w.client.cfg.VM, w.seq, int32(cpu.ID())
		w.client.cfg.Result(e)
	}
	return u.back, true
}

// tellFlow reports what a call that has returned did with a flow.
func (h *hooks) tellFlow(a *armed, d *decoder, u *underway) {
	if !a.wants.flows || flowActs[d.call.Name] == "" {
		return
	}
	e, ok := d.settled()
	for _, w := range u.to {
		if ok && slices.Contains(a.clients, w.client) && d.wantsFlow(&w.client.cfg) {
			e.VM = w.client.cfg.VM
			w.client.cfg.Flow(e)
		}
	}
}

// written reads what the call has written to its caller's memory.
func (d *decoder) written() {
	c := &d.event.Call
	for i, p := range d.call.Params {
		if at := d.value(i); p.Kind.After() && at != 0 && c.Result >= 0 {
			d.result(i, p, at, uint64(c.Result))
		}
	}
}

func (d *decoder) result(n int, p syscalls.Param, at, count uint64) {
	limit := uint64(max(d.armed.wants.data, 0))
	switch p.Kind {
	case syscalls.OutBuf, syscalls.OutData:
		d.bytes(n, at, min(count, limit))
	case syscalls.OutStr:
		if !d.stringAt(n, at) {
			d.missing(event.MissingData)
		}
	case syscalls.OutIOV:
		if buf, ok := d.filled(nil, at, d.value(p.Length), count); ok {
			d.set(n, buf)
		}
	case syscalls.OutMsg:
		d.received(n, at, count)
	case syscalls.OutAddr:
		// Its length is behind a pointer, and can be more than was asked for.
		if length := d.value(p.Length); length != 0 {
			if w, whole := d.read(nil, length, 4); whole {
				d.bytes(n, at, min(uint64(le.Uint32(w)), maxAddress))
			}
		}
	case syscalls.OutFDs:
		const size = 8
		d.bytes(n, at, size)
	case syscalls.OutInt:
		if count > 0 {
			d.bytes(n, at, 4)
		}
	}
}
