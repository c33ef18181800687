package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A servicesHost is a warder host of this machine, asked at its socket.
type servicesHost struct {
	cmd    *exec.Cmd
	dir    string
	cancel context.CancelFunc
	ended  chan struct{} // closed when it has
	client http.Client
}

// startHost starts a host with services, and waits until it answers.
func (b *bench) startHost(ctx context.Context, services string) (*servicesHost, error) {
	dir, err := os.MkdirTemp("", "services-")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "host.yaml")
	if err := os.WriteFile(config, []byte("services:\n"+services), 0o600); err != nil {
		return nil, err
	}
	h := &servicesHost{dir: dir, ended: make(chan struct{})}
	ctx, h.cancel = context.WithCancel(ctx)
	h.cmd = exec.CommandContext(ctx, "warder", "host", "--config", config)
	h.cmd.Stderr = os.Stderr
	if b.verbose {
		h.cmd.Stdout = os.Stdout
	}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		h.cmd.Wait()
		close(h.ended)
	}()
	socket := fmt.Sprintf("/run/warder/%d.sock", h.cmd.Process.Pid)
	h.client.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	for {
		if _, err := h.do(ctx, http.MethodGet, "services"); err == nil {
			return h, nil
		}
		select {
		case <-h.ended:
			return nil, errors.New("the host ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (h *servicesHost) end() {
	h.cancel()
	<-h.ended
	os.RemoveAll(h.dir)
}

// do makes a request and gives what is answered.
func (h *servicesHost) do(ctx context.Context, method, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://warder/v1/"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, body)
	}
	return body, err
}

// ask has a service start, stop or be waited for, and gives its state then.
func (h *servicesHost) ask(ctx context.Context, method, name, what string) (state string, err error) {
	body, err := h.do(ctx, method, "services/"+name+"/"+what)
	if err != nil {
		return "", err
	}
	var st struct{ State, Why string }
	if err := json.Unmarshal(body, &st); err != nil {
		return "", err
	}
	if st.State == "failed" {
		return "", fmt.Errorf("%s failed: %s", name, st.Why)
	}
	return st.State, nil
}

// mirror has the supervisor replaced, and gives how long that took by the host's own count:
// from its being asked for to where another one answers.
func (h *servicesHost) mirror(ctx context.Context) (time.Duration, error) {
	body, err := h.do(ctx, http.MethodPost, "supervisor/mirror")
	if err != nil {
		return 0, err
	}
	var st struct {
		Took int64 `json:"took_ns"`
	}
	err = json.Unmarshal(body, &st)
	return time.Duration(st.Took), err
}

// cold starts a service, and stops it. It gives how long the start took.
func (h *servicesHost) cold(ctx context.Context, name string) (time.Duration, error) {
	began := time.Now()
	state, err := h.ask(ctx, http.MethodPost, name, "start")
	took := time.Since(began)
	if err == nil && state != "running" {
		err = fmt.Errorf("%s is %s", name, state)
	}
	if err == nil {
		_, err = h.ask(ctx, http.MethodPost, name, "stop")
	}
	return took, err
}

// lastLine is the last that a service has said.
func (h *servicesHost) lastLine(ctx context.Context, name string) (line string, err error) {
	body, err := h.do(ctx, http.MethodGet, "services/"+name+"/logs")
	if err != nil {
		return "", err
	}
	for lines := bufio.NewScanner(strings.NewReader(string(body))); lines.Scan(); {
		var l struct{ Item struct{ Text string } }
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return "", err
		}
		line = l.Item.Text
	}
	return line, nil
}

// pss is the proportional set size of a process in MiB, with the memory of its guests
// (proc(5), /proc/pid/smaps_rollup).
func pss(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var kib int
		if _, err := fmt.Sscanf(line, "Pss: %d kB", &kib); err == nil {
			return float64(kib) / 1024, nil
		}
	}
	return 0, fmt.Errorf("no Pss of process %d", pid)
}
