package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Traffic is what VMs say to each other on the LAN of another process. Close it after use.
type Traffic struct {
	LANMonitor
	client *Client
}

// Close lets go of the process.
func (l *Traffic) Close() { l.client.close() }

// FindTraffic finds the traffic on the LAN of a process with a socket in a directory, [Dir] for one; with
// a pid of 0 that of the only process that has a monitor.
func FindTraffic(ctx context.Context, dir string, pid int) (*Traffic, error) {
	var paths []string
	err := locked(dir, func() (err error) { paths, err = sockets(dir); return err })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var found []*Traffic
	var errs []error
	for _, path := range paths {
		l := &Traffic{client: newClient(path)}
		err := l.client.get(ctx, "/v1/lan/monitor", nil, &l.LANMonitor)
		if e, ok := errors.AsType[*Error](err); ok && e.Code == NotFound || err == nil && pid != 0 && l.PID != pid {
			l.Close()
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
			l.Close()
			continue
		}
		found = append(found, l)
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var pids []string
	for _, l := range found {
		pids = append(pids, fmt.Sprint(l.PID))
		l.Close()
	}
	switch {
	case len(found) > 1:
		return nil, fmt.Errorf("several processes have a monitor: say by --pid which, %s", strings.Join(pids, " or "))
	case len(errs) > 0:
		return nil, errors.Join(errs...)
	case pid != 0:
		return nil, fmt.Errorf("process %d has no monitor, or is not this user's", pid)
	}
	return nil, errors.New("no process of this user sees what VMs say: warder host does")
}

// Flows are the flows that are known, of one VM or with "" of all.
func (l *Traffic) Flows(ctx context.Context, vm string) iter.Seq2[json.RawMessage, error] {
	q := url.Values{}
	if vm != "" {
		q.Set("vm", vm)
	}
	return l.client.stream(ctx, "/v1/lan/flows", q)
}

// Cut ends a flow by its number.
func (l *Traffic) Cut(ctx context.Context, flow uint64) error {
	return l.client.change(ctx, http.MethodDelete, "/v1/lan/flows/"+strconv.FormatUint(flow, 10), struct{}{})
}

// Capture writes frames to w as a file of pcapng, until ctx ends; query is that of
// GET /v1/lan/capture.
func (l *Traffic) Capture(ctx context.Context, query url.Values, w io.Writer) error {
	_, err := l.client.copy(ctx, "/v1/lan/capture", query, w)
	return err
}
