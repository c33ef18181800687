package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"warder/secmon/introspect"
)

// A Client speaks to one process that hosts VMs.
type Client struct {
	path string // of a socket, "" for none
	dial func(context.Context) (net.Conn, error)
	http http.Client
}

// newClient asks at a socket.
func newClient(path string) *Client {
	c := clientBy(func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", path) })
	c.path = path
	return c
}

// clientBy asks over the connections that dial makes.
func clientBy(dial func(context.Context) (net.Conn, error)) *Client {
	c := &Client{dial: dial}
	c.http.Transport = &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}
	return c
}

// close lets go of connections that nobody uses.
func (c *Client) close() { c.http.CloseIdleConnections() }

// Remote is a VM of another process. Close it after use.
type Remote struct {
	VM
	client *Client
}

// Close lets go of the VM's process.
func (r *Remote) Close() { r.client.close() }

// List finds the VMs of all processes with a socket in a directory, [Dir] for
// one, by name. A process that does not answer is left out, and the error says
// so; the others are there all the same.
func List(ctx context.Context, dir string) ([]VM, error) {
	remotes, err := find(ctx, dir)
	vms := make([]VM, len(remotes))
	for i, r := range remotes {
		vms[i] = r.VM
		r.Close()
	}
	return vms, err
}

func find(ctx context.Context, dir string) (found []*Remote, err error) {
	paths, err := socketsOf(dir)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, path := range paths {
		c := newClient(path)
		var vms []VM
		if err := c.get(ctx, "/v1/vms", nil, &vms); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
		c.close()
		for _, vm := range vms {
			found = append(found, &Remote{vm, newClient(path)})
		}
	}
	slices.SortFunc(found, func(a, b *Remote) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return a.PID - b.PID
	})
	return found, errors.Join(errs...)
}

// socketsOf are the paths of the sockets of a directory.
func socketsOf(dir string) (paths []string, err error) {
	err = locked(dir, func() (err error) { paths, err = sockets(dir); return err })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return paths, err
}

// Find finds a VM by its name, or by NAME@PID where several processes have one
// of that name.
func Find(ctx context.Context, dir, name string) (*Remote, error) {
	all, err := find(ctx, dir)
	var match []*Remote
	for _, r := range all {
		if name == r.Name || name == r.Name+"@"+strconv.Itoa(r.PID) {
			match = append(match, r)
		} else {
			r.Close()
		}
	}
	if len(match) == 1 {
		return match[0], nil
	}
	for _, r := range match {
		r.Close()
	}
	switch {
	case len(match) > 1:
		var names []string
		for _, r := range match {
			names = append(names, fmt.Sprintf("%s@%d", r.Name, r.PID))
		}
		return nil, fmt.Errorf("several processes have a VM %s: say which, %s", name, strings.Join(names, " or "))
	case err != nil:
		return nil, fmt.Errorf("VM %s: %w", name, err)
	}
	return nil, fmt.Errorf("no VM %s of this user is running: warder ls shows those that are", name)
}

// Get asks for one value about the VM; path is what follows its name.
func (r *Remote) Get(ctx context.Context, path string, query url.Values, v any) error {
	return r.client.get(ctx, r.path(path), query, v)
}

// Put sends a body, and takes the value that comes back.
func (r *Remote) Put(ctx context.Context, path string, query url.Values, body io.Reader, v any) error {
	resp, err := r.client.do(ctx, http.MethodPut, r.path(path), query, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(v)
}

// Copy writes an answer that is no JSON to w.
func (r *Remote) Copy(ctx context.Context, path string, query url.Values, w io.Writer) (int64, error) {
	return r.client.copy(ctx, r.path(path), query, w)
}

func (c *Client) copy(ctx context.Context, path string, query url.Values, w io.Writer) (int64, error) {
	resp, err := c.do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return io.Copy(w, resp.Body)
}

// ReadMemory writes guest memory to w and says where it is. Of the query, at is
// an address or a symbol, length how many bytes, pid a process whose memory is
// meant.
func (r *Remote) ReadMemory(ctx context.Context, query url.Values, w io.Writer) (at introspect.Pointer, err error) {
	resp, err := r.client.do(ctx, http.MethodGet, r.path("/memory"), query, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if err := at.UnmarshalText([]byte(resp.Header.Get(addressHeader))); err != nil {
		return 0, fmt.Errorf("the VM's process gave no address: %w", err)
	}
	_, err = io.Copy(w, resp.Body)
	return at, err
}

// Stream asks for a stream of values. An error ends it.
func (r *Remote) Stream(ctx context.Context, path string, query url.Values) iter.Seq2[json.RawMessage, error] {
	return r.client.stream(ctx, r.path(path), query)
}

func (c *Client) stream(ctx context.Context, path string, query url.Values) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		resp, err := c.do(ctx, http.MethodGet, path, query, nil)
		if err != nil {
			yield(nil, err)
			return
		}
		defer resp.Body.Close()
		d := json.NewDecoder(bufio.NewReader(resp.Body))
		for {
			var line Item
			switch err := d.Decode(&line); {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(nil, fmt.Errorf("the answer was cut off: %w", err))
				return
			case line.Error != nil:
				yield(nil, line.Error)
				return
			}
			if !yield(line.Item, nil) {
				return
			}
		}
	}
}

func (r *Remote) path(path string) string { return "/v1/vms/" + url.PathEscape(r.Name) + path }

func (c *Client) get(ctx context.Context, path string, query url.Values, v any) error {
	resp, err := c.do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(v)
}

// do makes a request. An answer that is an error comes back as one.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Response, error) {
	u := "http://warder" + path // the name says nothing: dial knows whom it means
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // the URL says nothing to a person
		}
		return nil, explainTLS(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, answerError(resp)
}

// answerError is the error that an answer tells.
func answerError(resp *http.Response) error {
	e := &Error{}
	if err := json.NewDecoder(resp.Body).Decode(e); err != nil || e.Message == "" {
		return fmt.Errorf("the VM's process answered %s", resp.Status)
	}
	return e
}
