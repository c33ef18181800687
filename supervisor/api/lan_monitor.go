package api

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"warder/secmon/lan"
	"warder/secmon/lan/filter"
	"warder/secmon/lan/monitor"
	"warder/secmon/lan/pcapng"
)

// Bounds on captures.
const (
	// MaxSnap is the most that is kept of a frame: all of the longest one.
	MaxSnap = 1 << 17
	// maxInterfaces is how many ports and VLANs a capture tells apart.
	maxInterfaces = 4096
	// lossTime is how soon a capture says that frames were lost.
	lossTime = time.Second
)

// LANMonitor is what the monitor of a process's LAN has seen.
type LANMonitor struct {
	PID int `json:"pid"` // of the process
	monitor.Stats
}

// Watch makes the monitor of this process's LAN known.
func (s *Server) Watch(m *monitor.Monitor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.monitor = m
}

// ofMonitor makes a handler of requests about what the monitor has seen.
func (s *Server) ofMonitor(f func(m *monitor.Monitor, w http.ResponseWriter, r *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		m := s.monitor
		s.mu.Unlock()
		if m == nil {
			fail(w, &Error{Code: NotFound, Message: "the VMs of this process have no monitor"})
			return
		}
		f(m, w, r)
	}
}

func (s *Server) lanMonitor(m *monitor.Monitor, w http.ResponseWriter, _ *http.Request) {
	reply(w, LANMonitor{os.Getpid(), m.Stats()})
}

// lanFlows streams the flows that are known, the one that was busy last first. ?vm=
// has those of one VM alone.
func lanFlows(m *monitor.Monitor, w http.ResponseWriter, r *http.Request) {
	flows := m.Flows()
	slices.SortFunc(flows, func(a, b monitor.Flow) int { return cmp.Compare(b.Last.UnixNano(), a.Last.UnixNano()) })
	vm := r.URL.Query().Get("vm")
	stream(w, func(put func(any) error) error {
		for i := range flows {
			if f := &flows[i]; vm == "" || vm == f.SourceVM || vm == f.DestinationVM {
				if err := put(f); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// lanCapture streams frames as a file of pcapng, until the client goes away or has
// as many as it wants. ?filter= is an expression, ?snap= how many bytes are kept of a
// frame, ?count= how many frames are wanted.
func lanCapture(m *monitor.Monitor, w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	want, err := filter.Parse(q.Get("filter"))
	if err != nil {
		fail(w, &Error{Code: BadRequest, Message: err.Error()})
		return
	}
	snap, count := MaxSnap, 0
	for name, to := range map[string]*int{"snap": &snap, "count": &count} {
		if s := q.Get(name); s != "" {
			if *to, err = strconv.Atoi(s); err != nil || *to < 1 || name == "snap" && *to > MaxSnap {
				fail(w, &Error{Code: BadRequest, Message: fmt.Sprintf("%s %s: give a number of 1 on (a snapshot has at most %d bytes)", name, s, MaxSnap)})
				return
			}
		}
	}
	tap := m.Capture(want, snap)
	if tap == nil {
		fail(w, &Error{Code: Unavailable, Message: "there are too many captures already: end one first"})
		return
	}
	defer m.Release(tap)
	w.Header().Set("Content-Type", "application/x-pcapng")
	c := capture{r: r, tap: tap, out: &patient{ResponseController: http.NewResponseController(w), ResponseWriter: w}, interfaces: make(map[place]uint32)}
	if c.file, err = pcapng.NewWriter(c.out, "warder", want.String(), snap); err != nil {
		return
	}
	c.run(count) // an error is the client's, who is gone
}

// capture is one that goes on.
type capture struct {
	r          *http.Request
	tap        *monitor.Tap
	out        *patient
	file       *pcapng.Writer
	interfaces map[place]uint32
	lost       uint64 // that were told
}

// place is where frames come from.
type place struct {
	port  string
	vlan  uint16
	vsock bool
}

// describe is what a file says of a place.
func (p place) describe() (link pcapng.Link, name, description string) {
	if p.vsock {
		return pcapng.Vsock, p.port + ".vsock", "vsock of " + p.port
	}
	return pcapng.Ethernet, fmt.Sprintf("%s.vlan%d", p.port, p.vlan), fmt.Sprintf("%s, VLAN %d", p.port, p.vlan)
}

func (c *capture) run(count int) error {
	frames := make(chan monitor.Captured)
	go func() {
		defer close(frames)
		for {
			f, err := c.tap.Next(c.r.Context())
			if err != nil {
				return
			}
			select {
			case frames <- f:
			case <-c.r.Context().Done():
				return
			}
		}
	}()
	tick := time.NewTicker(lossTime)
	defer tick.Stop()
	if err := c.out.Flush(); err != nil {
		return err
	}
	for n := 0; ; {
		select {
		case f, ok := <-frames:
			if !ok {
				return nil
			}
			if err := c.frame(&f); err != nil {
				return err
			}
			if n++; n == count {
				return c.tellLost()
			}
			if !c.tap.Waits() {
				c.out.Flush()
			}
		case <-tick.C:
			if err := c.tellLost(); err != nil {
				return err
			}
		}
	}
}

func (c *capture) frame(f *monitor.Captured) error {
	from := place{f.At, f.VLAN, f.Vsock}
	n, ok := c.interfaces[from]
	if !ok && len(c.interfaces) < maxInterfaces {
		var err error
		if n, err = c.file.Interface(from.describe()); err != nil {
			return err
		}
		c.interfaces[from] = n
	}
	to := f.To
	if to == "" {
		to = "everybody"
	}
	comment := fmt.Sprintf("from %s to %s, VLAN %d", f.From, to, f.VLAN)
	if f.Vsock {
		comment = fmt.Sprintf("from %s to %s", f.From, to)
	}
	if f.Refused != lan.None {
		comment += ", refused: " + f.Refused.String()
	}
	return c.file.Frame(n, f.Time, f.Data, f.Len, comment)
}

// tellLost says how many frames were lost, if more were than it said.
func (c *capture) tellLost() error {
	lost := c.tap.Lost()
	if lost == c.lost || len(c.interfaces) == 0 {
		return nil
	}
	c.lost = lost
	if err := c.file.Lost(0, time.Now().UnixNano(), lost); err != nil {
		return err
	}
	return c.out.Flush()
}
