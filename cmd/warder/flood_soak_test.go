//go:build soak

package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/guestinit/proto"
)

// asFlood makes this test binary a program of a guest's that floods the host's ports.
const asFlood = "WARDER_TEST_AS_FLOOD"

func init() {
	if os.Getenv(asFlood) != "" {
		floodFromGuest()
	}
}

// floods is how many connections a guest opens, and floodTime is how long it then talks.
const (
	floods    = 10000
	floodTime = 20 * time.Second
)

// floodFromGuest opens connections to the host's port for services and to one where
// nobody is, says nonsense on all of them, and tells how many it got.
func floodFromGuest() {
	unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 2 * floods, Max: 2 * floods})
	var open []int
	failed := 0
	for i := range floods {
		fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			failed++
			continue
		}
		port := uint32(proto.ServicesPort)
		if i%4 == 3 {
			port = 40000 + uint32(i)
		}
		err = unix.Connect(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_HOST, Port: port})
		if err != nil && err != unix.EINPROGRESS {
			unix.Close(fd)
			failed++
			continue
		}
		open = append(open, fd)
	}
	nonsense := []byte(strings.Repeat("GET /v1/services HTTP/1.1\r\nX: ", 2000))
	said := 0
	for end := time.Now().Add(floodTime); time.Now().Before(end); {
		for _, fd := range open {
			n, _ := unix.Write(fd, nonsense)
			said += max(n, 0)
		}
	}
	fmt.Printf("flood: %d open, %d failed, %d bytes said\n", len(open), failed, said)
	select {} // and holds them
}

// own is what a process has for itself, in bytes: without the memory of its guests,
// which is shared memory (proc(5)).
func own(t *testing.T, pid int) int {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "RssAnon:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no RssAnon")
	return 0
}

// TestFloodFromAVM has a service flood its vsock while others are used.
func TestFloodFromAVM(t *testing.T) {
	inVM(t)
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "host.yaml")
	if err := os.WriteFile(config, []byte(`
access: {vms: true, policies: access.cedar}
services:
  - {name: quiet, memory: 128M, health: {command: ['true'], interval: 2s, start_period: 4m}}
  - name: loud
    memory: 512M
    shares: ['`+filepath.Dir(self)+`:/test:ro']
    env: {`+asFlood+`: '1'}
    command: ['/test/`+filepath.Base(self)+`']
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "access.cedar"), []byte(`permit (principal == Service::"loud", action == Action::"list", resource);`), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHostProcess(t, config)
	h.reached(t)
	h.service(t, "", "start", "quiet").check(t, 0, "quiet running\n")
	h.service(t, "", "exec", "quiet", "service", "show", "self").check(t, 0, "quiet  running  \n")
	before := own(t, h.cmd.Process.Pid)
	h.service(t, "", "start", "loud").check(t, 0, "loud running\n")
	most, used := 0, 0
	for said := ""; said == ""; used++ {
		h.service(t, "hello\n", "exec", "-i", "quiet", "--", "cat").check(t, 0, "hello\n")
		h.service(t, "", "exec", "quiet", "service", "show", "self").check(t, 0, "quiet  running  \n") // by its own vsock
		if st := h.status(t, "quiet"); st.Health != "ok" || st.Starts != 1 {
			t.Errorf("the other service: %+v", st)
		}
		most = max(most, own(t, h.cmd.Process.Pid))
		if r := h.service(t, "", "logs", "loud"); strings.Contains(r.stdout, "flood: ") {
			said = strings.TrimSpace(r.stdout)
			t.Log(said)
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("the other service was used %d times; of the host's own there are %d MiB, %d at the most", used, before>>20, most>>20)
	// A connection that is there may hold a buffer; there are as many as the device allows.
	if most > before+64<<20 {
		t.Errorf("of the host's own there were %d MiB before, and %d at the most", before>>20, most>>20)
	}
	h.service(t, "", "stop", "loud").check(t, 0, "loud stopped: stopped by uid 0\n")
	if state := h.end(t, syscall.SIGTERM); state.ExitCode() != 0 {
		t.Errorf("the host ended with %v", state)
	}
}
