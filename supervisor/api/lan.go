package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"warder/secmon/lan/monitor"
	"warder/supervisor/declaration"
	"warder/supervisor/network"
)

// ServeLAN has the server answer for a LAN of this process too.
func (s *Server) ServeLAN(n *network.Network) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lan = n
}

// maxRules bounds a list of rules in bytes.
const maxRules = 1 << 20

// PortChange is what is to become of a port; what is nil stays.
type PortChange struct {
	Isolated *bool   `json:"isolated,omitempty"`
	Rate     *uint64 `json:"rate,omitempty"`     // bytes a second, 0 for any number
	Diverted *string `json:"diverted,omitempty"` // the mirror port that gets its frames, "" for none
}

// FlowChange is what is to become of a flow.
type FlowChange struct {
	Diverted string `json:"diverted"` // the mirror port that gets its frames, "" for none
}

func showLAN(n *network.Network, _ *http.Request) (any, error) {
	st := n.Status()
	st.PID = os.Getpid()
	return st, nil
}

// allowOnLAN replaces what is allowed.
func allowOnLAN(n *network.Network, r *http.Request) (any, error) {
	var allow []declaration.Allow
	err := json.NewDecoder(r.Body).Decode(&allow)
	if err == nil {
		err = n.SetAllow(allow)
	}
	if err != nil {
		return nil, &Error{Code: BadRequest, Message: err.Error()}
	}
	return struct{}{}, nil
}

// setEgress replaces what services may reach outside.
func setEgress(n *network.Network, r *http.Request) (any, error) {
	var by map[string][]declaration.Egress
	err := json.NewDecoder(r.Body).Decode(&by)
	if err == nil {
		err = n.SetEgress(by)
	}
	if err != nil {
		return nil, &Error{Code: BadRequest, Message: err.Error()}
	}
	return struct{}{}, nil
}

// divertFlow diverts a flow by the number that events name, or puts it back.
func (s *Server) divertFlow(n *network.Network, r *http.Request) (any, error) {
	s.mu.Lock()
	m := s.monitor
	s.mu.Unlock()
	id, err := strconv.ParseUint(r.PathValue("flow"), 10, 64)
	var c FlowChange
	if err == nil {
		err = json.NewDecoder(r.Body).Decode(&c)
	}
	found := false
	if err == nil && m != nil {
		for _, at := range m.AtSwitch(id) {
			var one bool
			one, err = n.DivertFlow(at, c.Diverted)
			found = found || one
		}
	}
	switch {
	case err != nil:
		return nil, &Error{Code: BadRequest, Message: err.Error()}
	case !found:
		return nil, &Error{Code: NotFound, Message: fmt.Sprintf("there is no flow %d on the LAN: warder lan flows lists those that are", id)}
	}
	return struct{}{}, nil
}

// cutFlow cuts a flow by the number that events name.
func (s *Server) cutFlow(m *monitor.Monitor, w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	n := s.lan
	s.mu.Unlock()
	id, err := strconv.ParseUint(r.PathValue("flow"), 10, 64)
	if err != nil {
		fail(w, &Error{Code: BadRequest, Message: fmt.Sprintf("flow %s: give its number", r.PathValue("flow"))})
		return
	}
	cut := m.CutVsock(id)
	for _, at := range m.AtSwitch(id) {
		cut = n != nil && n.Switch().Cut(at) || cut
	}
	if !cut {
		fail(w, &Error{Code: NotFound, Message: fmt.Sprintf("there is no flow %d: warder lan flows lists those that are", id)})
		return
	}
	reply(w, struct{}{})
}

func (s *Server) ofLAN(f func(*network.Network, *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		n := s.lan
		s.mu.Unlock()
		if n == nil {
			fail(w, &Error{Code: NotFound, Message: "this process has no LAN"})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxRules)
		answer, err := f(n, r)
		if err != nil {
			fail(w, err)
			return
		}
		reply(w, answer)
	}
}

// changePort cuts a port off or puts it back, with the links of its VM, or bounds what
// it sends.
func (s *Server) changePort(n *network.Network, r *http.Request) (any, error) {
	name := r.PathValue("port")
	p := n.Port(name)
	if p == nil {
		return nil, &Error{Code: NotFound, Message: fmt.Sprintf("no service %s is on the LAN", name)}
	}
	var c PortChange
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		return nil, &Error{Code: BadRequest, Message: err.Error()}
	}
	if c.Diverted != nil {
		if err := n.Divert(name, *c.Diverted); err != nil {
			return nil, &Error{Code: BadRequest, Message: err.Error()}
		}
	}
	if c.Rate != nil {
		p.SetRate(*c.Rate)
	}
	if c.Isolated != nil {
		p.Isolate(*c.Isolated)
		s.mu.Lock()
		h := s.vms[name]
		s.mu.Unlock()
		if h != nil && h.Machine != nil {
			for _, dev := range h.Machine.Nets() {
				dev.SetLink(!*c.Isolated)
			}
		}
	}
	return struct{}{}, nil
}

// A LAN is that of another process. Close it after use.
type LAN struct {
	network.Status
	client *Client
}

// Close lets go of the process.
func (l *LAN) Close() { l.client.close() }

// LANs finds the LANs of all processes with a socket in a directory, [Dir] for one. A
// process that does not answer is left out, and the error says so.
func LANs(ctx context.Context, dir string) (found []*LAN, err error) {
	var paths []string
	err = locked(dir, func() (err error) { paths, err = sockets(dir); return err })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, path := range paths {
		l := &LAN{client: newClient(path)}
		switch err := l.client.get(ctx, "/v1/lan", nil, &l.Status); {
		case err == nil:
			found = append(found, l)
			continue
		case !isNotFound(err):
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
		l.Close()
	}
	return found, errors.Join(errs...)
}

func isNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == NotFound
}

// Has reports whether a service is on the LAN.
func (l *LAN) Has(service string) bool {
	for _, p := range l.Ports {
		if p.Name == service {
			return true
		}
	}
	return false
}

// FindLAN finds the LAN that a service is on; "" stands for the only one there is.
func FindLAN(ctx context.Context, dir, service string) (*LAN, error) {
	all, err := LANs(ctx, dir)
	var match []*LAN
	for _, l := range all {
		if service == "" || l.Has(service) {
			match = append(match, l)
		} else {
			l.Close()
		}
	}
	if len(match) == 1 {
		return match[0], nil
	}
	for _, l := range match {
		l.Close()
	}
	switch {
	case len(match) > 1:
		return nil, fmt.Errorf("several processes of this user have such a LAN: warder lan show tells them apart")
	case err != nil:
		return nil, err
	case service == "":
		return nil, errors.New("no process of this user has a LAN: warder host with a lan section has one")
	}
	return nil, fmt.Errorf("no service %s is on a LAN of this user's: warder lan show lists those that are", service)
}

// SetAllow replaces what is allowed on the LAN beside what services say of themselves.
func (l *LAN) SetAllow(ctx context.Context, allow []declaration.Allow) error {
	return l.change(ctx, http.MethodPut, "/v1/lan/allow", allow)
}

// SetEgress replaces what services may reach outside; those that are not named reach
// nothing, but for services that were added while the host ran, which keep what they have.
func (l *LAN) SetEgress(ctx context.Context, by map[string][]declaration.Egress) error {
	return l.change(ctx, http.MethodPut, "/v1/lan/egress", by)
}

// ChangePort changes a service's port.
func (l *LAN) ChangePort(ctx context.Context, service string, c PortChange) error {
	return l.change(ctx, http.MethodPut, "/v1/lan/ports/"+url.PathEscape(service), c)
}

// ChangeFlow changes what becomes of a flow, by its number.
func (l *LAN) ChangeFlow(ctx context.Context, flow uint64, c FlowChange) error {
	return l.change(ctx, http.MethodPut, "/v1/lan/flows/"+strconv.FormatUint(flow, 10), c)
}

func (l *LAN) change(ctx context.Context, method, path string, body any) error {
	return l.client.change(ctx, method, path, body)
}

// change has something changed, and waits for the answer.
func (c *Client) change(ctx context.Context, method, path string, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, method, path, nil, strings.NewReader(string(b)))
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
