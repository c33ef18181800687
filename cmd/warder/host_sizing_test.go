package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"warder/supervisor/api"
	"warder/supervisor/hosting"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// burst writes 80 MiB into memory at once, more than the guest has.
const burst = `
mkdir -p /fill && mount -t tmpfs -o size=100m none /fill &&
dd if=/dev/zero of=/fill/it bs=1M count=80 status=none && echo filled`

// computeTwice keeps two CPUs busy until it is killed.
const computeTwice = `while :; do :; done & while :; do :; done`

// elasticHost has room for 352 MiB: a cannot have more than 144 of them beside b.
const elasticHost = `
limits: {memory: 352M}
services:
  - {name: a, memory: 128M:512M, cpus: %d, cpus_min: 1, on_demand: {idle: 1h, wait: 5m, sockets: ['a.sock:5000']}}
  - {name: b, memory: 208M}
`

// TestElasticService has a guest need more memory than it began with, a second CPU
// where there are two, and then hardly anything, while another service waits for
// memory.
func TestElasticService(t *testing.T) {
	inVM(t)
	cpus := min(2, runtime.NumCPU()) // no machine has more than its host
	config := filepath.Join(t.TempDir(), "host.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, elasticHost, cpus), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHostProcess(t, config)
	h.reached(t)
	h.demand(t, filepath.Join(filepath.Dir(config), "a.sock"), "a")
	if b := h.balance(t); b.Committed.Memory != 128<<20 || b.Committed.VCPUs < 1 || b.Committed.VCPUs > cpus { // as busy as it was when it booted
		t.Errorf("committed at first: %+v", b.Committed)
	}
	h.service(t, "", "exec", "a", "--", "sh", "-c", burst).check(t, 0, "filled\n")
	h.happens(t, "a", func(e hosting.Event) bool { return e.Sized != nil && e.Sized.To.Memory > e.Sized.From.Memory })
	if b := h.balance(t); b.Committed.Memory <= 144<<20 || b.Committed.Memory > 352<<20 {
		t.Errorf("committed: %+v", b.Committed)
	}
	if r := h.service(t, "", "events", "a"); !strings.Contains(r.stdout, "memory 128 MiB to ") {
		t.Errorf("%+v", r)
	}
	if cpus > 1 {
		stop := h.command(t, "exec", "a", "--", "sh", "-c", computeTwice)
		h.happens(t, "a", func(e hosting.Event) bool { return e.Sized != nil && e.Sized.From.CPUs == 1 && e.Sized.To.CPUs == 2 })
		stop()
	}
	// What it does not need any more goes to the one that waits, and to the host.
	full := h.takes(t, "a")
	waiting := h.command(t, "start", "--patience", "1h", "b")
	h.service(t, "", "exec", "a", "--", "rm", "/fill/it").check(t, 0, "")
	h.happens(t, "b", func(e hosting.Event) bool { return e.State == services.Starting })
	rest := h.takes(t, "a")
	for ; rest > 144<<20; rest = h.takes(t, "a") {
		time.Sleep(100 * time.Millisecond) // until the test's own time is over
	}
	t.Logf("it took %d MiB of the host's memory, and takes %d", full>>20, rest>>20)
	if b := h.balance(t); b.Committed.Memory > 352<<20 || len(b.Grants) != 2 || b.Grants[0].Memory > 144<<20 {
		t.Errorf("committed: %+v", b)
	}
	waiting()
	if state := h.end(t, syscall.SIGTERM); state.ExitCode() != 0 {
		t.Errorf("the host ended with %v", state)
	}
}

// demand has a connection start a service, in which nobody takes it.
func (h *hostProcess) demand(t *testing.T, path, name string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	h.happens(t, name, func(e hosting.Event) bool { return e.State == services.Running })
	if st := h.status(t, name); st.State != services.Running || st.By != services.ByConnection {
		t.Fatalf("after a connection: %+v", st)
	}
}

// balance asks for the host's books.
func (h *hostProcess) balance(t *testing.T) (b verify.Balance) {
	t.Helper()
	if err := json.Unmarshal([]byte(h.service(t, "", "resources", "-o", "json").stdout), &b); err != nil {
		t.Fatal(err)
	}
	return b
}

// command begins a command about the host's services, until the function that it gives
// is called.
func (h *hostProcess) command(t *testing.T, args ...string) (stop func()) {
	t.Helper()
	cmd := warderCommand(t, append([]string{"service", args[0], "--host", fmt.Sprint(h.cmd.Process.Pid)}, args[1:]...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// takes is how much of a service's memory takes memory of the host, in bytes.
func (h *hostProcess) takes(t *testing.T, name string) uint64 {
	t.Helper()
	host, err := api.FindHost(t.Context(), api.Dir(), h.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	stats, err := host.Stats(t.Context(), name)
	if err != nil || len(stats) != 1 {
		t.Fatalf("%+v, %v", stats, err)
	}
	return stats[0].Used
}

// happens waits for an event of a service, or finds it among those that there were.
func (h *hostProcess) happens(t *testing.T, name string, is func(hosting.Event) bool) {
	t.Helper()
	host, err := api.FindHost(t.Context(), api.Dir(), h.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	for e, err := range host.Events(t.Context(), name, true) {
		switch {
		case err != nil:
			t.Fatal(err)
		case is(e):
			return
		case e.State != services.Starting && e.State != services.Running:
			t.Fatalf("the service is %s: %s", e.State, e.Why)
		}
	}
	t.Fatal("the events have ended")
}
