package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"warder/supervisor/hosting"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// A Host is a process that hosts services. Close it after use.
type Host struct {
	PID    int
	client *Client
}

// Close lets go of the process.
func (h *Host) Close() { h.client.close() }

// FindHost finds the process that hosts services among those with a socket in a
// directory, [Dir] for one; pid says which where there are several, else it is 0.
func FindHost(ctx context.Context, dir string, pid int) (*Host, error) {
	paths, err := socketsOf(dir)
	if err != nil {
		return nil, err
	}
	var found []*Host
	var errs []error
	for _, path := range paths {
		h := &Host{client: newClient(path)}
		var who process
		err := h.client.get(ctx, "/v1/host", nil, &who)
		if h.PID = who.PID; err == nil && (pid == 0 || pid == h.PID) {
			found = append(found, h)
			continue
		}
		h.Close()
		if e, ok := errors.AsType[*Error](err); err != nil && (!ok || e.Code != NoServices) {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var pids []string
	for _, h := range found {
		h.Close()
		pids = append(pids, strconv.Itoa(h.PID))
	}
	switch {
	case len(found) > 1:
		return nil, fmt.Errorf("several processes host services: say which by --host, %s", strings.Join(pids, " or "))
	case len(errs) > 0:
		return nil, errors.Join(errs...)
	case pid != 0:
		return nil, fmt.Errorf("process %d hosts no services", pid)
	}
	return nil, errors.New("no process of this user hosts services: start one with warder host --config FILE, with services in the file")
}

// HostAt is the host behind a socket that it shares. Its PID is not known.
func HostAt(path string) *Host { return &Host{client: newClient(path)} }

// process is the answer of GET /v1/host.
type process struct {
	PID int `json:"pid"`
}

func servicePath(name, what string) string { return "/v1/services/" + url.PathEscape(name) + what }

// Services lists all services.
func (h *Host) Services(ctx context.Context) (list []services.Status, err error) {
	return list, h.client.get(ctx, "/v1/services", nil, &list)
}

// Service tells of one service.
func (h *Host) Service(ctx context.Context, name string) (services.Status, error) {
	return h.ask(ctx, http.MethodGet, servicePath(name, ""), nil, nil)
}

// Add declares a service by the text of a file whose paths are relative to the
// directory base.
func (h *Host) Add(ctx context.Context, name string, src []byte, base string) (services.Status, error) {
	return h.ask(ctx, http.MethodPut, servicePath(name, ""), url.Values{"base": {base}}, bytes.NewReader(src))
}

// Remove forgets a service that was added and does not run.
func (h *Host) Remove(ctx context.Context, name string) (services.Status, error) {
	return h.ask(ctx, http.MethodDelete, servicePath(name, ""), nil, nil)
}

// Start starts a service, and gives its state once it runs or has failed. The
// error has a [verify.Refusal] when the machine does not have what it needs.
func (h *Host) Start(ctx context.Context, name string) (services.Status, error) {
	return h.StartWhenFree(ctx, name, 0)
}

// StartWhenFree starts a service like Start, and waits for patience at most while the
// machine does not have what the service needs.
func (h *Host) StartWhenFree(ctx context.Context, name string, patience time.Duration) (services.Status, error) {
	q := url.Values{}
	if patience != 0 {
		q.Set("patience", patience.String())
	}
	return h.ask(ctx, http.MethodPost, servicePath(name, "/start"), q, nil)
}

// Stop stops a service, which gets timeout to end, its declared one when that is
// 0, and gives its last state.
func (h *Host) Stop(ctx context.Context, name string, timeout time.Duration) (services.Status, error) {
	q := url.Values{}
	if timeout != 0 {
		q.Set("timeout", timeout.String())
	}
	return h.ask(ctx, http.MethodPost, servicePath(name, "/stop"), q, nil)
}

// Wait waits until a service holds nothing any more, and gives its last state.
func (h *Host) Wait(ctx context.Context, name string) (services.Status, error) {
	return h.ask(ctx, http.MethodGet, servicePath(name, "/wait"), nil, nil)
}

func (h *Host) ask(ctx context.Context, method, path string, query url.Values, body io.Reader) (st services.Status, err error) {
	resp, err := h.client.do(ctx, method, path, query, body)
	if err != nil {
		return st, err
	}
	defer resp.Body.Close()
	return st, json.NewDecoder(resp.Body).Decode(&st)
}

// Stats tells what services use that have a VM, or the one of a name that is not "".
func (h *Host) Stats(ctx context.Context, name string) (list []hosting.Stats, err error) {
	q := url.Values{}
	if name != "" {
		q.Set("service", name)
	}
	return list, h.client.get(ctx, "/v1/service-stats", q, &list)
}

// Resources tells what the machine has, and who holds it.
func (h *Host) Resources(ctx context.Context) (b verify.Balance, err error) {
	return b, h.client.get(ctx, "/v1/resources", nil, &b)
}

// Logs are the last lines of what a service said, all that are kept when lines is
// negative, and with follow those that come, until ctx ends.
func (h *Host) Logs(ctx context.Context, name string, lines int, follow bool) iter.Seq2[hosting.Line, error] {
	q := url.Values{}
	if lines >= 0 {
		q.Set("lines", strconv.Itoa(lines))
	}
	return streamOf[hosting.Line](ctx, h.client, servicePath(name, "/logs"), following(q, follow))
}

// Console writes the last that the kernel of a service's guest said to w, as it came.
func (h *Host) Console(ctx context.Context, name string, w io.Writer) error {
	resp, err := h.client.do(ctx, http.MethodGet, servicePath(name, "/console"), nil, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(w, resp.Body)
	return err
}

// Events are what has happened, to one service if name is not "", and with follow
// what happens, until ctx ends.
func (h *Host) Events(ctx context.Context, name string, follow bool) iter.Seq2[hosting.Event, error] {
	q := url.Values{}
	if name != "" {
		q.Set("service", name)
	}
	return streamOf[hosting.Event](ctx, h.client, "/v1/service-events", following(q, follow))
}

func following(q url.Values, follow bool) url.Values {
	if follow {
		q.Set("follow", "1")
	}
	return q
}

func streamOf[T any](ctx context.Context, c *Client, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for raw, err := range c.stream(ctx, path, query) {
			var v T
			if err == nil {
				err = json.Unmarshal(raw, &v)
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}
