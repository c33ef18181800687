package lan

import (
	"time"

	"warder/secmon/lan/packet"
)

// InUse are the ports with [PortConfig.Wake] that others make use of: those with a
// connection that others have begun and that neither both ends have closed nor one has
// reset, and those that had something of another conversation said to them, or said it,
// since a time. Of what goes by way of a trusted port that port knows better.
func (s *Switch) InUse(since time.Time) map[*Port]bool {
	used := make(map[*Port]bool)
	t, now, at := s.table.Load(), s.now(), int64(since.Sub(s.began))
	s.flows.Each(func(f *Flow) bool {
		if to := f.Data.to; to != nil && to.door != nil && !used[to] && inUse(f, t.policy, at, now) {
			used[to] = true
		}
		return true
	})
	return used
}

// inUse reports whether a flow, which is locked, has somebody make use of its destination.
func inUse(f *Flow, p *policy, since, now int64) bool {
	c := &f.Data
	switch {
	case c.via != nil || c.from.cfg.Trusted || c.cut:
		return false
	case c.from.isolated.Load() || c.to.isolated.Load():
		return false
	case c.diverted != nil || c.from.diverted.Load() != nil || c.to.diverted.Load() != nil:
		return false
	case over(f, p, c.from, c.to, now) != "":
		return false
	case f.Protocol == packet.TCP: // of the VM that there is now
		return !f.State.Over() && f.Last >= c.to.began.Load()
	}
	return f.Last >= since
}
