package trap

import (
	"golang.org/x/sys/unix"

	"warder/vmm"
)

// hit reports a call that is about to run, and lets it run or not. through is
// what lets it.
func (h *hooks) hit(a *armed, s *site, cpu CPU, through vmm.TrapAction) vmm.TrapAction {
	d := a.decoder(h, cpu)
	d.site = s
	told := d.decode()
	if d.event.Call.Missing != 0 && d.mistaken() {
		d.call, d.open = nil, false
		told = d.decode()
	}
	var errno unix.Errno
	var holds []*Hold
	for _, t := range s.clients {
		t.hits.Add(1)
		if !told || !d.concerns(&t.cfg) {
			continue
		}
		e := d.event
		e.VM, e.Seq = t.cfg.VM, t.seq.Add(1)
		if t.cfg.Result != nil || d.wantsFlow(&t.cfg) {
			d.results = append(d.results, wanted{t, e.Seq})
		}
		if e.Call.Missing != 0 && !s.check {
			t.undecoded.Add(1)
		}
		if got := t.cfg.Sink(e); got != 0 {
			t.denied.Add(1)
			if errno == 0 {
				errno = got
			}
		} else if t.cfg.Hold != nil {
			if hold := t.cfg.Hold(e); hold != nil {
				holds = append(holds, hold)
			}
		}
	}
	return h.decided(d, errno, holds, through)
}

// decided does what the clients have said, one hold after the other.
func (h *hooks) decided(d *decoder, errno unix.Errno, holds []*Hold, through vmm.TrapAction) vmm.TrapAction {
	switch {
	case errno != 0:
		h.refused(d, errno)
		return vmm.Return(-int64(errno))
	case len(holds) > 0:
		// What the decoder holds is still true: the vCPU stands where it was.
		return vmm.Stand(holds[0].done, func() vmm.TrapAction {
			return h.decided(d, holds[0].errno, holds[1:], through)
		})
	}
	h.follow(d)
	return through
}
