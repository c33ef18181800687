package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"warder/supervisor/api"
	"warder/supervisor/mirror"
	"warder/supervisor/services"
	"warder/supervisor/verify"
	"warder/vmm/cgroup"
)

// leftovers are groups and sockets of a process that was killed, after the time in which
// another host removes them.
func leftovers(t *testing.T, pid int) (left []string) {
	t.Helper()
	for end := time.Now().Add(leftoverTime); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if left = leftNow(t, pid); len(left) == 0 {
			break
		}
	}
	for i, path := range left { // who keeps a group, if it is one
		threads, _ := os.ReadFile(filepath.Join(path, "cgroup.threads"))
		for id := range strings.FieldsSeq(string(threads)) {
			status, _ := os.ReadFile(filepath.Join("/proc", id, "status"))
			left[i] += fmt.Sprintf(": %.200s", status)
		}
	}
	return left
}

// leftoverTime is in which a host has removed what another has left.
const leftoverTime = 3 * reclaimEvery

// leftNow are those of any process.
func leftNow(t *testing.T, pid int) []string {
	t.Helper()
	groups, err := filepath.Glob(filepath.Join(cgroup.Find().Dir, fmt.Sprintf("warder-%d-*", pid)))
	if err != nil {
		t.Fatal(err)
	}
	socks, err := filepath.Glob(filepath.Join(api.Dir(), fmt.Sprint(pid, "*")))
	if err != nil {
		t.Fatal(err)
	}
	return append(groups, socks...)
}

// mirrored has the supervisor replaced while somebody asks, and finds nothing changed.
func (h *hostProcess) mirrored(t *testing.T) {
	t.Helper()
	host, err := api.FindHost(t.Context(), api.Dir(), h.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	type outcome struct {
		st  mirror.Status
		err error
	}
	over := make(chan outcome, 1)
	go func() {
		st, err := host.Mirror(t.Context())
		over <- outcome{st, err}
	}()
	var o outcome
	for done, asked := false, 0; !done; asked++ {
		select {
		case o = <-over:
			done = true
		default:
		}
		_, err := host.Start(t.Context(), "wide") // waits for the next one to say the same
		if r, ok := errors.AsType[*verify.Refusal](err); !ok || r.Resource != "vcpus" {
			t.Fatalf("question %d: %v", asked, err)
		}
	}
	if o.err != nil || o.st.Mirrors != 1 || !strings.Contains(o.st.Reason, "asked for by uid 0") {
		t.Fatalf("%+v, %v", o.st, o.err)
	}
	t.Logf("another supervisor answered after %v", o.st.Took)
	if st := h.status(t, "web"); st.State != services.Running || st.Starts != 1 {
		t.Errorf("%+v", st)
	}
	h.service(t, "", "exec", "web", "cat", "/srv/ready").check(t, 0, "")
	if r := h.service(t, "", "logs", "web"); !strings.HasPrefix(r.stdout, "up fast\n") {
		t.Errorf("what it said before is gone: %+v", r)
	}
}
