package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

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
	return h.ask(ctx, http.MethodPost, servicePath(name, "/start"), nil, nil)
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

// Resources tells what the machine has, and who holds it.
func (h *Host) Resources(ctx context.Context) (b verify.Balance, err error) {
	return b, h.client.get(ctx, "/v1/resources", nil, &b)
}

// Logs are the last lines of what a service said, all that are kept when lines is
// negative, and with follow those that come, until ctx ends.
func (h *Host) Logs(ctx context.Context, name string, lines int, follow bool) iter.Seq2[services.Line, error] {
	q := url.Values{}
	if lines >= 0 {
		q.Set("lines", strconv.Itoa(lines))
	}
	return streamOf[services.Line](ctx, h.client, servicePath(name, "/logs"), following(q, follow))
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
func (h *Host) Events(ctx context.Context, name string, follow bool) iter.Seq2[services.Event, error] {
	q := url.Values{}
	if name != "" {
		q.Set("service", name)
	}
	return streamOf[services.Event](ctx, h.client, "/v1/service-events", following(q, follow))
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

// A Command is a command in a service's VM, tied to this process.
type Command struct {
	conn net.Conn
	r    io.Reader
	out  *frames
}

// Exec starts a command in the VM of a service. Give it to [Command.Run].
func (h *Host) Exec(ctx context.Context, name string, x Exec) (*Command, error) {
	body, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	c, err := h.client.upgrade(ctx, http.MethodPost, servicePath(name, "/exec"), execProtocol, body)
	if err != nil {
		return nil, err
	}
	return &Command{conn: c, r: bufio.NewReader(c), out: &frames{w: c}}, nil
}

// Run carries input and output until the command ends; in is nil without input.
// A Read of in that blocks then stays behind. When ctx ends first, the command is
// killed.
func (c *Command) Run(ctx context.Context, in io.Reader, out, errs io.Writer) (Exit, error) {
	defer c.conn.Close()
	defer context.AfterFunc(ctx, func() { c.conn.Close() })()
	if in != nil {
		go func() {
			if _, err := io.Copy(frameWriter{c.out, frameInput}, in); err == nil {
				c.out.write(frameInputEnd, nil) // or the command has ended
			}
		}()
	}
	for {
		kind, b, err := readFrame(c.r)
		if err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return Exit{}, fmt.Errorf("the command was cut off: %w", err)
		}
		switch kind {
		case frameOutput:
			_, err = out.Write(b)
		case frameError:
			_, err = errs.Write(b)
		case frameExit:
			var x Exit
			return x, json.Unmarshal(b, &x)
		}
		if err != nil {
			return Exit{}, err
		}
	}
}

// Signal sends a signal, by its Linux number.
func (c *Command) Signal(n int) error { return c.tell(frameSignal, n) }

// Resize changes the size of the command's terminal.
func (c *Command) Resize(s Size) error { return c.tell(frameSize, s) }

func (c *Command) tell(kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.out.write(kind, b)
}
