package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"warder/secmon/event"
	"warder/secmon/introspect"
	"warder/secmon/strace"
	"warder/secmon/trap"
)

// detachTime is how long a guest's kernel may take to show itself for hooks to be
// taken off.
const detachTime = 5 * time.Second

// traceQuery is what a client wants to see of a VM's system calls.
type traceQuery struct {
	cfg   strace.Config
	limit int
	json  bool
}

func parseTrace(arch string, q url.Values) (t traceQuery, err error) {
	if t.cfg.Calls, err = strace.ParseSet(arch, q["trace"]); err != nil {
		return t, err
	}
	t.limit = 32
	if s := q.Get("limit"); s != "" {
		if t.limit, err = strconv.Atoi(s); err != nil || t.limit < 0 || t.limit > strace.MaxLimit {
			return t, fmt.Errorf("limit %s: give 0 to %d", s, strace.MaxLimit)
		}
	}
	for _, s := range q["pid"] {
		pid, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return t, fmt.Errorf("pid %q is no number", s)
		}
		t.cfg.PIDs = append(t.cfg.PIDs, uint32(pid))
	}
	t.cfg.Follow = q.Get("follow") != ""
	t.json = q.Get("output") == "json"
	return t, nil
}

// trace streams the system calls of a VM, as lines or as events, until the client
// goes away.
func (s *Server) trace(h *Hosted, w http.ResponseWriter, r *http.Request) {
	if h.Machine == nil || h.Kernel == "" {
		fail(w, &Error{Code: Unavailable, Message: "the system calls of this VM cannot be traced: which kernel it runs is not known"})
		return
	}
	k, err := introspect.Open(h.Kernel)
	if err != nil {
		fail(w, &Error{Code: Unavailable, Message: err.Error()})
		return
	}
	q, err := parseTrace(k.Arch(), r.URL.Query())
	if err != nil {
		fail(w, &Error{Code: BadRequest, Message: err.Error()})
		return
	}
	stream(w, func(put func(any) error) error {
		t, err := strace.Attach(r.Context(), h.Name, trap.Of(h.Machine), k, q.cfg, q.limit)
		if err != nil {
			return err
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.Background(), detachTime)
			defer cancel()
			if err := t.Detach(ctx); err != nil {
				s.log.Warn("a trace could not be taken off", "vm", h.Name, "err", err)
			}
		}()
		for {
			e, err := t.Next(r.Context())
			if err != nil {
				return nil // the client has gone, or the VM
			}
			if err := q.put(&e, put); err != nil {
				return err
			}
		}
	})
}

func (q *traceQuery) put(e *event.Event, put func(any) error) error {
	if q.json {
		return put(e)
	}
	if err := put(strace.Line(e, q.limit, true)); err != nil {
		return err
	}
	if s := strace.Ended(e, true); s != "" {
		return put(s)
	}
	return nil
}
