package vmm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"warder/devices/guestmem"
	"warder/vmm/userfault"
)

// A WriteFunc is told of the page that a vCPU is about to write to. The vCPU
// waits in the kernel, inside KVM_RUN, while it runs; then its write happens
// and the page is no longer protected, until [Protection.Protect]. It runs on
// the goroutine of the protection, and must not wait for a vCPU.
type WriteFunc func(page guestmem.Addr)

// A Protection watches pages of guest memory for writes by the guest's vCPUs.
// What a device writes at the guest's request goes through another mapping and
// is not seen.
type Protection struct {
	m       *Machine
	kept    *guestmem.Kept
	watches []*userfault.Watch // by slot
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

// Watch returns a protection with no page in it yet, whose writes f is told
// of. A machine has at most one at a time; its Close ends it.
func (m *Machine) Watch(f WriteFunc) (*Protection, error) {
	m.watching.Lock()
	defer m.watching.Unlock()
	switch {
	case m.hasEnded():
		return nil, errEnded
	case m.watch != nil:
		return nil, errors.New("vmm: the machine's memory is being watched already")
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Protection{m: m, kept: m.mem.Keep(), cancel: cancel}
	for _, s := range m.slots {
		w, err := userfault.New(s.mem)
		if err != nil {
			return nil, errors.Join(err, p.end())
		}
		p.watches = append(p.watches, w)
		p.done.Go(func() { p.serve(ctx, w, s.base, f) })
	}
	m.watch = p
	return p, nil
}

// serve lets one writer after the other go, once f has looked.
func (p *Protection) serve(ctx context.Context, w *userfault.Watch, base guestmem.Addr, f WriteFunc) {
	page := uint64(os.Getpagesize())
	for {
		off, err := w.Next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				p.m.end(Exit{Reason: Failed, Err: fmt.Errorf("write protection: %w", err)})
			}
			return
		}
		f(base + guestmem.Addr(off))
		if err := w.Release(off, page); err != nil {
			p.m.end(Exit{Reason: Failed, Err: fmt.Errorf("write protection: %w", err)})
			return
		}
	}
}

// Protect protects the pages that hold any of the n bytes at addr. From then on
// the guest can't have them emptied, by its balloon for one, until Close: that
// would change them, and take the protection away, without a write.
func (p *Protection) Protect(addr guestmem.Addr, n uint64) error {
	page := uint64(os.Getpagesize())
	if err := p.kept.Add(addr, n); err != nil {
		return err
	}
	for i, s := range p.m.slots {
		if addr < s.base || addr >= s.end() {
			continue
		}
		off := uint64(addr - s.base)
		first := off &^ (page - 1)
		last := (off + n + page - 1) &^ (page - 1)
		return p.watches[i].Protect(first, last-first)
	}
	return guestmem.ErrRange
}

// Close takes all protection away and lets every writer go. Closing it again, or
// after its machine, does nothing.
func (p *Protection) Close() error {
	p.m.watching.Lock()
	defer p.m.watching.Unlock()
	if p.m.watch != p {
		return nil
	}
	p.m.watch = nil
	return p.end()
}

// endWatch ends the protection that there is. The machine has ended, so that no
// other will be.
func (m *Machine) endWatch() error {
	m.watching.Lock()
	p := m.watch
	m.watching.Unlock()
	if p == nil {
		return nil
	}
	return p.Close()
}

func (p *Protection) end() error {
	p.cancel()
	p.done.Wait()
	var errs []error
	for _, w := range p.watches {
		errs = append(errs, w.Close())
	}
	errs = append(errs, p.kept.Close())
	return errors.Join(errs...)
}
