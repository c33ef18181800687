//go:build soak

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"warder/supervisor/api"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// The machine of the crowd: what its services may hold together.
const (
	crowdMemory = 1536 << 20
	crowdVCPUs  = 10
)

// crowdServices are twenty services of three kinds, which need more together than
// there is: jobs that end, elastic services that stay, and large ones.
func crowdServices() (config string, names []string) {
	var b strings.Builder
	fmt.Fprintf(&b, "state: state\nlimits: {memory: %dM, vcpus: %d, headroom: 32M}\nservices:\n", crowdMemory>>20, crowdVCPUs)
	add := func(name, rest string) {
		names = append(names, name)
		fmt.Fprintf(&b, "  - {name: %s, %s}\n", name, rest)
	}
	for i := range 8 {
		add(fmt.Sprint("job-", i), `command: [sh, -c, 'echo done; sleep 5'], memory: 128M`)
	}
	for i := range 7 {
		add(fmt.Sprint("web-", i), fmt.Sprintf(`memory: 128M:256M, priority: %d, health: {command: ['true'], timeout: 1m}, restart: {policy: always}`, i%3))
	}
	for i := range 5 {
		add(fmt.Sprint("big-", i), `memory: 384M`)
	}
	return b.String(), names
}

// A request is what one client asked for, and what came of it.
type request struct {
	what, name string
	outcome    string // running, ended, ..., refused, state, host gone
}

// A crowd is the clients, with all that they asked for.
type crowd struct {
	t    *testing.T
	h    *hostProcess
	mu   sync.Mutex
	made int
	done []request
}

// start starts a host, which may take longer than one VM's test.
func (c *crowd) start(config string) {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	h := &hostProcess{cmd: exec.CommandContext(c.t.Context(), self, "host", "--config", config), ended: make(chan struct{})}
	h.cmd.Env = append(os.Environ(), asWarder+"=1")
	h.cmd.Stdout, h.cmd.Stderr = os.Stdout, os.Stderr
	if err := h.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		h.cmd.Wait()
		close(h.ended)
	}()
	c.h = h
	h.reached(c.t)
}

// burst has a service fill memory and let it go again. On a machine that is so slow
// that the host does not answer in time, the guest may run out of it.
func (c *crowd) burst(ctx context.Context, name string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "service", "exec", "--host", fmt.Sprint(c.h.cmd.Process.Pid), name, "--", "sh", "-c", burst+"; rm /fill/it; umount /fill")
	cmd.Env = append(os.Environ(), asWarder+"=1")
	return cmd.Run()
}

// someStarts waits until a service is starting.
func (c *crowd) someStarts(over <-chan struct{}) {
	c.t.Helper()
	host, err := api.FindHost(c.t.Context(), api.Dir(), c.h.cmd.Process.Pid)
	if err != nil {
		c.t.Fatal(err)
	}
	defer host.Close()
	for {
		list, err := host.Services(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		if slices.ContainsFunc(list, func(st services.Status) bool { return st.State == services.Starting }) {
			return
		}
		select {
		case <-over:
			c.t.Fatal("nobody started anything")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// ask does one request, which has to have exactly one outcome that makes sense.
func (c *crowd) ask(ctx context.Context, what, name string, f func(*api.Host) (services.Status, error)) string {
	c.mu.Lock()
	c.made++
	c.mu.Unlock()
	r := request{what: what, name: name}
	host, err := api.FindHost(ctx, api.Dir(), c.h.cmd.Process.Pid)
	if err == nil {
		var st services.Status
		st, err = f(host)
		r.outcome = string(st.State)
		host.Close()
	}
	said, coded := errors.AsType[*api.Error](err)
	switch {
	case err == nil:
	case !coded:
		r.outcome = "host gone"
	case said.Code == api.Refused && said.Refusal != nil:
		r.outcome = "refused"
		c.right(name, said.Refusal)
	case said.Code == api.Unavailable:
		r.outcome = "state"
	default:
		c.t.Errorf("%s %s: %v", what, name, err)
		r.outcome = "wrong"
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = append(c.done, r)
	return r.outcome
}

// right checks that a refusal is one by its own numbers.
func (c *crowd) right(name string, r *verify.Refusal) {
	switch r.Resource {
	case "memory", "vcpus":
		if r.Wanted <= r.Free {
			c.t.Errorf("%s is refused %d of %d %s", name, r.Wanted, r.Free, r.Resource)
		}
	case verify.Turn:
	default:
		c.t.Errorf("%s is refused for %+v", name, r)
	}
}

// balanced checks that all that is granted is held by an active service, once, and is
// no more than there is.
func (c *crowd) balanced(when string) {
	c.t.Helper()
	host, err := api.FindHost(c.t.Context(), api.Dir(), c.h.cmd.Process.Pid)
	if err != nil {
		c.t.Fatal(err)
	}
	defer host.Close()
	var active, held []string
	var b verify.Balance
	for try := 0; ; try++ { // the two are asked for one after the other
		active, held = nil, nil
		list, err := host.Services(c.t.Context())
		if err != nil {
			c.t.Fatal(err)
		}
		for _, st := range list {
			switch st.State {
			case services.Starting, services.Running, services.Stopping, services.Waiting:
				active = append(active, st.Name)
			}
		}
		if b, err = host.Resources(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
		var memory uint64
		vcpus := 0
		for _, g := range b.Grants {
			held = append(held, g.Holder)
			memory, vcpus = memory+g.Memory, vcpus+g.VCPUs
		}
		if memory != b.Committed.Memory || vcpus != b.Committed.VCPUs || memory > crowdMemory || vcpus > crowdVCPUs {
			c.t.Errorf("%s: %d bytes and %d vCPUs are granted, the books say %+v", when, memory, vcpus, b.Committed)
		}
		if slices.Sort(active); slices.Equal(active, held) {
			return
		}
		if try == 20 {
			c.t.Errorf("%s: active are %q, %q hold something", when, active, held)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// TestCrowdOfServices has concurrent clients start, load and stop twenty services on a
// machine that cannot hold all, kills the host meanwhile, and finds the books balanced
// and each request answered once.
func TestCrowdOfServices(t *testing.T) {
	inVM(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "host.yaml")
	text, names := crowdServices()
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t}
	c.start(config)
	round := func(ctx context.Context, what string, each int) {
		var clients sync.WaitGroup
		for client := range 4 {
			r := rand.New(rand.NewPCG(7, uint64(client)))
			mine := slices.Clone(names)
			r.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
			clients.Go(func() {
				for _, name := range mine[:each] {
					if ctx.Err() != nil {
						return
					}
					got := c.ask(ctx, "start", name, func(h *api.Host) (services.Status, error) { return h.Start(ctx, name) })
					switch {
					case got == "running" && strings.HasPrefix(name, "web-"): // a burst, let go again
						t.Logf("%s: burst: %v", name, c.burst(ctx, name))
					case got == "running" && r.IntN(2) == 0:
						c.ask(ctx, "stop", name, func(h *api.Host) (services.Status, error) { return h.Stop(ctx, name, time.Second) })
					}
				}
			})
		}
		clients.Wait()
		t.Logf("%s: over", what)
	}
	round(t.Context(), "first", 10)
	c.balanced("after the first round")

	// The host dies in the middle of a request.
	for _, name := range names {
		if !strings.HasPrefix(name, "web-") {
			c.ask(t.Context(), "stop", name, func(h *api.Host) (services.Status, error) { return h.Stop(t.Context(), name, time.Second) })
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		round(ctx, "second", 10)
	}()
	c.someStarts(over)
	c.h.end(t, syscall.SIGKILL)
	cancel()
	<-over
	first := c.h.cmd.Process.Pid
	c.start(config)
	c.balanced("after the host was killed")
	if left := leftovers(t, first); len(left) > 0 {
		t.Errorf("of the host that was killed there are still %q", left)
	}
	round(t.Context(), "third", 5)
	c.balanced("after the third round")

	// What others hold is waited for.
	waited := make(chan string, 1)
	go func() {
		waited <- c.ask(t.Context(), "start", "big-4", func(h *api.Host) (services.Status, error) {
			return h.StartWhenFree(t.Context(), "big-4", 10*time.Minute)
		})
	}()
	for _, name := range names {
		if name != "big-4" {
			c.ask(t.Context(), "stop", name, func(h *api.Host) (services.Status, error) { return h.Stop(t.Context(), name, time.Second) })
		}
	}
	if got := <-waited; got != "running" && got != "state" {
		t.Errorf("who waited: %s", got)
	}
	c.ask(t.Context(), "stop", "big-4", func(h *api.Host) (services.Status, error) { return h.Stop(t.Context(), "big-4", time.Second) })
	c.balanced("at the end")
	if b := c.h.balance(t); len(b.Grants) != 0 || b.Committed.Memory != 0 || len(b.Waiting) != 0 {
		t.Errorf("at the end: %+v", b)
	}
	if state := c.h.end(t, syscall.SIGTERM); state.ExitCode() != 0 {
		t.Errorf("the host ended with %v", state)
	}
	counts := make(map[string]int)
	for _, r := range c.done {
		counts[r.what+" "+r.outcome]++
	}
	if len(c.done) != c.made || slices.ContainsFunc(c.done, func(r request) bool { return r.outcome == "" }) {
		t.Errorf("%d requests, %d outcomes", c.made, len(c.done))
	}
	t.Logf("%d requests: %v", c.made, counts)
	for _, what := range []string{"start running", "start refused", "start state", "start host gone", "stop stopped"} {
		if counts[what] == 0 {
			t.Errorf("nothing was %q: this tried little", what)
		}
	}
}
