package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"warder/supervisor/network"
)

// extra is a service that was added to a host.
type extra struct {
	dir, file string
	port      network.PortStatus // as it was
}

// extraPort is the one that it publishes.
const extraPort = "127.0.0.1:18081"

// asPeer has the test's binary connect to an address, in the environment.
const asPeer = "WARDER_TEST_PEER"

// peerInGuest connects to who echoes, once, says what comes back, and is there as long as its
// input is.
func peerInGuest(address string) {
	c, err := net.Dial("tcp", address)
	for errors.Is(err, unix.ETIMEDOUT) { // after two minutes, in which a slow machine starts nothing
		c, err = net.Dial("tcp", address)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Fprintln(c, "by a peer")
	line, err := bufio.NewReader(c).ReadString('\n')
	fmt.Printf("%q, %v\n", line, err)
	io.Copy(io.Discard, os.Stdin)
	c.Close()
}

// wake has one service connect to a port of another that does not run. The connection is
// there when wake returns, until leave is called.
func (h *hostProcess) wake(t *testing.T, from, address, program string) (leave func()) {
	t.Helper()
	cmd := warderCommand(t, "service", "exec", "--host", fmt.Sprint(h.cmd.Process.Pid), "-i", from, "--", "sh", "-c", asPeer+"="+address+" "+program)
	in, out := talk(t, cmd)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != `"by a peer\n", <nil>`+"\n" {
		t.Errorf("%s connected to %s: %q, %v", from, address, line, err)
	}
	return func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// add adds a service to a host that runs, has it reached by another service, which starts
// it, and from outside, and sees it stop.
func (h *hostProcess) add(t *testing.T, dir, self string) *extra {
	t.Helper()
	declare := func(name, lan string) string {
		t.Helper()
		file := filepath.Join(dir, name+".yaml")
		if err := os.WriteFile(file, []byte(`
name: `+name+`
memory: 128M
shares: ['`+filepath.Dir(self)+`:/test:ro']
env: {`+asEcho+`: '1'}
command: ['/test/`+filepath.Base(self)+`']
health: {command: [sh, -c, 'test -e `+listening+`'], start_period: 3m}
on_demand: {idle: 3s, wait: 4m, sockets: ['`+name+`.sock:5000']}
lan: `+lan), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	h.service(t, "", "add", declare("extra", "{vlan: front, publish: '127.0.0.1:18080:80'}")).check(t, 1, "", "publish 127.0.0.1:18080:80: ", "by lazy: give another port")
	h.service(t, "", "add", declare("before", "{vlan: front, publish: '127.0.0.1:0:80'}")).check(t, 0, "before stopped\n")
	x := &extra{dir: dir, file: declare("extra", "{vlan: front, publish: '"+extraPort+":80', allow: [{from: web, ports: [icmp, tcp/80]}]}")}
	h.service(t, "", "add", x.file).check(t, 0, "extra stopped\n")
	h.service(t, "", "rm", "before").check(t, 0, "")

	leave := h.wake(t, "web", "extra:80", "/test/"+filepath.Base(self))
	h.reach(t, "extra", "a connection of web", map[string]string{"unix": filepath.Join(dir, "extra.sock"), "tcp": extraPort}, func() {
		if r := h.service(t, "", "exec", "web", "--", "ping", "-c", "1", "extra"); r.status != 0 {
			t.Errorf("by another service: %+v", r)
		}
		leave()
	})
	x.port = h.portOf(t, "extra")
	if fmt.Sprint(x.port.Addresses) != "[10.9.0.5]" || !slices.Equal(x.port.Published, []string{extraPort + ":80"}) {
		t.Errorf("%+v", x.port)
	}
	return x
}

// remove finds the service as it was, under another host, removes it, and finds what it had
// free.
func (x *extra) remove(t *testing.T, h *hostProcess) {
	t.Helper()
	if p := h.portOf(t, "extra"); !slices.Equal(p.Addresses, x.port.Addresses) || !slices.Equal(p.Published, x.port.Published) || p.MAC != x.port.MAC {
		t.Errorf("it was %+v, it is %+v", x.port, p)
	}
	socket := filepath.Join(x.dir, "extra.sock")
	if l, err := net.Listen("tcp", extraPort); err == nil {
		l.Close()
		t.Error("nobody listens for it")
	}
	h.service(t, "", "rm", "extra").check(t, 0, "")
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("its socket: %v", err)
	}
	if l, err := net.Listen("tcp", extraPort); err != nil {
		t.Error(err)
	} else {
		l.Close()
	}
	src, err := os.ReadFile(x.file)
	if err != nil {
		t.Fatal(err)
	}
	other := strings.NewReplacer("name: extra", "name: other", "vlan: front", "vlan: front, address: 10.9.0.5").Replace(string(src))
	if err := os.WriteFile(x.file, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	h.service(t, "", "add", x.file).check(t, 0, "other stopped\n") // with its address and port
}

// portOf is a service's place on the LAN as warder lan show tells, the zero value for none.
func (h *hostProcess) portOf(t *testing.T, name string) network.PortStatus {
	t.Helper()
	r := warder(t, nil, "lan", "show", "-o", "json")
	var all []network.Status
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, st := range all {
		for _, p := range st.Ports {
			if st.PID == h.cmd.Process.Pid && p.Name == name {
				return p
			}
		}
	}
	return network.PortStatus{}
}
