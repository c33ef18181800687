package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/vsock"

	"warder/guestinit/initramfs"
	"warder/internal/testcert"
	"warder/internal/testimage"
	"warder/supervisor/api"
	"warder/supervisor/services"
)

func TestServiceLint(t *testing.T) {
	dir := t.TempDir()
	for name, src := range map[string]string{
		"good.yaml": "name: web\ncommand: [httpd]\nshares: [./not-there:/srv]\n",
		"bad.yaml":  "name: Web\nmemory: 64M\nrestart: {policy: sometimes}\n",
		"net.yaml":  "name: web\nnets: ['bridge:b']\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := filepath.Join(dir, "good.yaml")
	warder(t, nil, "service", "lint", good).check(t, 0, good+": web is declared well\n")
	warder(t, nil, "service", "lint", filepath.Join(dir, "bad.yaml")).check(t, 1, "", "bad.yaml", ">  1 | name: Web", "restart.policy")
	warder(t, nil, "service", "lint", filepath.Join(dir, "net.yaml")).check(t, 1, "", "tap:NAME")
	if r := warder(t, nil, "service", "schema"); r.status != 0 || !json.Valid([]byte(r.stdout)) {
		t.Errorf("the schema: status %d, %q", r.status, r.stdout)
	}
}

// TestServiceWithoutHost asks where there is no host.
func TestServiceWithoutHost(t *testing.T) {
	cmd := warderCommand(t, "service", "ls", "--host", "1")
	out, err := cmd.CombinedOutput()
	if finish(t, cmd, err) != 1 || !strings.Contains(string(out), "hosts no services") {
		t.Errorf("%v: %s", err, out)
	}
}

// hostProcess is a warder host of its own process.
type hostProcess struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
}

// startHostProcess starts a host, which lives as long as the test, however long that takes.
func startHostProcess(t *testing.T, config string, env ...string) *hostProcess {
	t.Helper()
	h := &hostProcess{cmd: warderUntil(t, t.Context(), "host", "--config", config)}
	h.cmd.Env = append(h.cmd.Env, env...)
	h.cmd.Stdout, h.cmd.Stderr = os.Stdout, os.Stderr
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.ended = make(chan struct{})
	go func() {
		h.cmd.Wait()
		close(h.ended)
	}()
	return h
}

// service runs a command about the host's services.
func (h *hostProcess) service(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	args = append([]string{"service", args[0], "--host", fmt.Sprint(h.cmd.Process.Pid)}, args[1:]...)
	return warder(t, strings.NewReader(stdin), args...)
}

// reached waits until the host answers.
func (h *hostProcess) reached(t *testing.T) {
	t.Helper()
	for {
		host, err := api.FindHost(t.Context(), api.Dir(), h.cmd.Process.Pid)
		if err == nil {
			host.Close()
			return
		}
		select {
		case <-h.ended:
			t.Fatalf("the host ended with %v", h.cmd.ProcessState)
		case <-t.Context().Done():
			t.Fatal(err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// end waits for the host to end after a signal.
func (h *hostProcess) end(t *testing.T, signal syscall.Signal) *os.ProcessState {
	t.Helper()
	if err := h.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	<-h.ended
	return h.cmd.ProcessState
}

// status asks for a service as JSON.
func (h *hostProcess) status(t *testing.T, name string) (st services.Status) {
	t.Helper()
	r := h.service(t, "", "show", "-o", "json", name)
	if err := json.Unmarshal([]byte(r.stdout), &st); r.status != 0 || err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	return st
}

// attach types into the command of a service, hears it, and lets go of it by the keys.
func (h *hostProcess) attach(t *testing.T, name string) {
	t.Helper()
	cmd := warderCommand(t, "service", "attach", "--host", fmt.Sprint(h.cmd.Process.Pid), name)
	in, out := talk(t, cmd)
	fmt.Fprintln(in, "typed")
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "typed\n" {
		t.Errorf("attached: %q, %v", line, err)
	}
	fmt.Fprint(in, detachKeys)
	if err := cmd.Wait(); err != nil {
		t.Errorf("detached: %v", err)
	}
	if st := h.status(t, name); st.State != services.Running {
		t.Errorf("after that it is %s", st.State)
	}
}

// asEcho has the test's binary be what a service runs, in the environment.
const asEcho = "WARDER_TEST_ECHO"

// listening is a file of a guest's that is there when its echo is.
const listening = "/listening"

// echoInGuest says what it hears, to who comes by TCP or vsock.
func echoInGuest() {
	tcp, err := net.Listen("tcp", ":80")
	if err != nil {
		panic(err)
	}
	local, err := vsock.Listen(5000, nil)
	if err != nil {
		panic(err)
	}
	answer := func(l net.Listener) {
		for {
			c, err := l.Accept()
			if err != nil {
				panic(err)
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}
	if err := os.WriteFile(listening, nil, 0o600); err != nil {
		panic(err)
	}
	go answer(tcp)
	answer(local)
}

// reach connects to a service in all its ways at once, while it runs because of somebody,
// does something meanwhile, and sees it stop when they have let go of it.
func (h *hostProcess) reach(t *testing.T, name, by string, at map[string]string, meanwhile func()) {
	t.Helper()
	var conns []net.Conn
	for network, address := range at {
		c, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintln(c, "by", network)
		conns = append(conns, c)
	}
	for _, c := range conns {
		line, err := bufio.NewReader(c).ReadString('\n')
		if want := "by " + c.RemoteAddr().Network() + "\n"; line != want {
			t.Errorf("%q, %v; want %q", line, err, want)
		}
	}
	if st := h.status(t, name); st.State != services.Running || st.By != by || st.Starts != 1 {
		t.Errorf("%+v", st)
	}
	meanwhile()
	for _, c := range conns {
		c.Close()
	}
	host, err := api.FindHost(t.Context(), api.Dir(), h.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	for e, err := range host.Events(t.Context(), name, true) {
		if err != nil {
			t.Fatal(err)
		}
		if e.State == services.Stopped {
			if e.Why != "stopped by the host: no connection for 3s" {
				t.Errorf("%+v", e)
			}
			return
		}
	}
	t.Error("it is not stopped")
}

// overNetworkToo asks the host as a client of the network, by flags and by the environment.
func overNetworkToo(t *testing.T, ca *testcert.Authority) {
	t.Helper()
	cert, key := ca.Issue("alice", nil)
	flags := []string{"service", "--url", "https://127.0.0.1:18443", "--cert", cert, "--key", key, "--ca", ca.File}
	if r := warder(t, nil, append(flags, "ls")...); r.status != 0 || !strings.Contains(r.stdout, "huge") {
		t.Errorf("over the network: %+v", r)
	}
	warder(t, nil, append(flags, "start", "web")...).check(t, 1, "", "client alice may not do this with web: start")
	cmd := warderCommand(t, "service", "ls", "-o", "json")
	cmd.Env = append(cmd.Environ(), "WARDER_URL=https://127.0.0.1:18443", "WARDER_CERT="+cert, "WARDER_KEY="+key, "WARDER_CA="+ca.File)
	if out, err := cmd.Output(); err != nil || !strings.Contains(string(out), `"name": "huge"`) {
		t.Errorf("by the environment: %v: %s", err, out)
	}
	cmd = warderCommand(t, append(flags[:len(flags)-1:len(flags)-1], cert, "ls")...)
	if out, err := cmd.CombinedOutput(); finish(t, cmd, err) != 1 || !strings.Contains(string(out), "this is not the host") {
		t.Errorf("with another authority: %v: %s", err, out)
	}
}

// used asks what a service uses, and how the host fares.
func (h *hostProcess) used(t *testing.T, name string) {
	t.Helper()
	var u usage
	var r result
	for u.Guest == nil { // it may take its time
		var list []usage
		r = h.service(t, "", "stats", "-o", "json")
		if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || len(list) != 1 || t.Context().Err() != nil {
			t.Fatalf("%+v, %v", r, err)
		}
		u = list[0]
	}
	if u.Name != name || u.CPUTime <= 0 || u.Used == 0 || u.Granted != 128<<20 || u.Used > u.Granted || exits(u.Stats) == 0 {
		t.Errorf("%+v", u)
	}
	if u.ShareRequests == 0 || u.ShareRead == 0 || u.ShareWritten == 0 || u.Throttled != 0 { // it has made a file on its share
		t.Errorf("%+v", u.IO)
	}
	if u.Guest.MemoryTotal == 0 || u.Guest.MemoryTotal > u.Granted || u.Guest.Processes == 0 {
		t.Errorf("the guest says %+v", u.Guest)
	}
	var s hostStatus
	r = warder(t, nil, "host", "status", "--host", fmt.Sprint(h.cmd.Process.Pid), "-o", "json")
	if err := json.Unmarshal([]byte(r.stdout), &s); err != nil || s.PID != h.cmd.Process.Pid {
		t.Fatalf("%+v, %v", r, err)
	}
	if s.Resources.Committed.VCPUs != 1 || s.Resources.Used == 0 || s.Resources.Available == 0 || s.Services[services.Running] != 1 || s.Services[services.Stopped] != 3 {
		t.Errorf("%+v", s)
	}
	if r := h.service(t, "", "top", "-n", "1", "--every", "100ms"); r.status != 0 || !strings.Contains(r.stdout, name) {
		t.Errorf("%+v", r)
	}
}

// TestServices starts a service by the host's socket, works with it, kills the
// host, and finds the service running again under the next one.
func TestServices(t *testing.T) {
	inVM(t)
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "share"), 0o755); err != nil {
		t.Fatal(err)
	}
	base, err := initramfs.Base()
	if err != nil {
		t.Fatal(err)
	}
	testimage.WriteDir(t, filepath.Join(dir, "root"), base)
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "db.key"), []byte("of the host"), 0o600),
		os.WriteFile(filepath.Join(dir, "disk.img"), testimage.Disk(t), 0o600)); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "host.yaml")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, []byte(`
state: state
limits: {vcpus: 2}
secrets: {db: 'file:db.key'}
lan: {vlans: [{name: front, network: 10.9.0.0/24}]}
access:
  tls: {listen: '127.0.0.1:18443', cert: host.cert.pem, key: host.key.pem, client_ca: ca.pem}
  vms: true
  policies: access.cedar
services:
  - name: web
    image: dir:root
    secrets: [db]
    memory: 128M
    shares: [./share:/srv, '`+filepath.Dir(self)+`:/test:ro']
    lan: {vlan: front}
    ports: ['log=unix:log.sock']
    env: {MODE: fast}
    stdin: true
    command: [sh, -c, 'echo up $MODE; echo no >&2; touch /srv/ready; cat']
    health: {command: [sh, -c, 'test -e /srv/ready'], start_period: 2m}
    restart: {policy: always}
  - {name: wide, cpus: 3}
  - {name: huge, memory: 8T}
  - name: lazy
    image: disk:disk.img
    memory: 128M
    shares: ['`+filepath.Dir(self)+`:/test:ro']
    env: {`+asEcho+`: '1'}
    command: ['/test/`+filepath.Base(self)+`']
    on_demand: {idle: 3s, wait: 4m, sockets: ['lazy.sock:5000']}
    lan: {vlan: front, publish: '127.0.0.1:18080:80'}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	ca := testcert.New(t, dir, "ca")
	ca.Issue("host", nil)
	if err := os.WriteFile(filepath.Join(dir, "access.cedar"), []byte(`
permit (principal == Client::"alice", action == Action::"list", resource);
permit (principal == Service::"web", action == Action::"start", resource == Service::"wide");`), 0o600); err != nil {
		t.Fatal(err)
	}
	h := startHostProcess(t, config)
	h.reached(t)
	overNetworkToo(t, ca)
	h.service(t, "", "start", "wide").check(t, 1, "", "not enough vcpus: it needs 3, 2 are free")
	h.service(t, "", "start", "huge").check(t, 1, "", "not enough memory: it may need 8.0 TiB")
	h.service(t, "", "start", "web").check(t, 0, "web running\n")
	h.service(t, "", "start", "web").check(t, 1, "", "web is running already")
	r := h.service(t, "", "logs", "web")
	r.check(t, 0, "up fast\n", "no")
	h.service(t, "hello\n", "exec", "-i", "web", "--", "sh", "-c", "cat; echo $MODE >&2; exit 3").check(t, 3, "hello\n", "\n")
	if r := h.service(t, "", "exec", "-t", "web", "tty"); r.status != 0 || !strings.HasPrefix(r.stdout, "/dev/pts/") || !strings.HasSuffix(r.stdout, "\r\n") {
		t.Errorf("with a terminal: %+v", r)
	}
	h.service(t, "", "exec", "web", "cat", "/run/secrets/db").check(t, 0, "of the host")
	h.service(t, "", "exec", "web", "secret", "other").check(t, 1, "", "not declared to get the secret other")
	h.service(t, "", "exec", "web", "sh", "-c", "test -e /init || echo image; touch /written").check(t, 0, "image\n") // of nothing else
	h.service(t, "", "exec", "web", "no-such-program").check(t, statusNotFound, "", "no-such-program")
	if r := h.service(t, "", "console", "web"); r.status != 0 {
		t.Errorf("the guest's console: %+v", r)
	}
	if r := h.service(t, "", "resources"); r.status != 0 || !strings.Contains(r.stdout, filepath.Join(dir, "log.sock")) {
		t.Errorf("%+v", r)
	}
	if st := h.status(t, "web"); st.State != services.Running || st.Health != "ok" || st.Starts != 1 {
		t.Errorf("%+v", st)
	}

	h.service(t, "", "exec", "web", "sh", "-c", "test -e /sys/block/pmem0").check(t, 0, "") // its image
	h.attach(t, "web")
	h.used(t, "web")
	x := h.add(t, dir, self)

	h.mirrored(t)
	first := h.cmd.Process.Pid
	if ws := h.end(t, syscall.SIGKILL).Sys().(syscall.WaitStatus); ws.Signal() != syscall.SIGKILL {
		t.Fatalf("the host ended by %v", ws)
	}
	if err := os.Remove(filepath.Join(dir, "share", "ready")); err != nil {
		t.Fatal(err)
	}
	cache, as := withoutPmem(t)
	h = startHostProcess(t, config, "WARDER_CACHE="+cache)
	h.reached(t)
	if left := leftovers(t, first); len(left) > 0 {
		t.Errorf("of the host that was killed there are still %q", left)
	}
	host, err := api.FindHost(t.Context(), api.Dir(), h.cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	for e, err := range host.Events(t.Context(), "web", true) {
		if err != nil {
			t.Fatal(err)
		}
		if e.State != services.Starting && e.State != services.Running {
			t.Fatalf("the service is %s: %s", e.State, e.Why)
		}
		if e.State == services.Running {
			break
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "share", "ready")); err != nil {
		t.Errorf("it runs, and has not come up: %v", err)
	}
	x.remove(t, h)
	h.service(t, "", "exec", "web", "sh", "-c", "test -e /written").check(t, 1, "") // in a new VM of the image
	h.service(t, "", "exec", "web", "sh", "-c", "test -e /sys/block/"+as).check(t, 0, "")
	inside := func(args ...string) result {
		return h.service(t, "", append([]string{"exec", "web", "--", "service"}, args...)...)
	}
	if r := inside("show", "self"); r.status != 0 || !strings.HasPrefix(r.stdout, "web  running") {
		t.Errorf("it sees itself: %+v", r)
	}
	inside("start", "wide").check(t, 1, "", "service: not enough vcpus: it needs 3")
	inside("start", "huge").check(t, 1, "", "service web may not do this with huge: start (no policy permits it)")
	inside("stop", "self") // which may be cut off, or end
	h.service(t, "", "wait", "web").check(t, 0, "web stopped: stopped by service web\n")
	if r := h.service(t, "", "resources", "-o", "json"); !strings.Contains(r.stdout, `"grants": []`) {
		t.Errorf("still granted: %s", r.stdout)
	}
	if state := h.end(t, syscall.SIGTERM); state.ExitCode() != 0 {
		t.Errorf("the host ended with %v", state)
	}
	if left := leftNow(t, h.cmd.Process.Pid); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}
