package network

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"warder/boot/kernelpkg"
	"warder/devices/virtio/fs"
	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/internal/testkvm"
	"warder/secmon/lan"
	"warder/secmon/watch"
	"warder/supervisor"
	"warder/supervisor/declaration"
)

// outsideAddress is one that this machine is given beside its loopback's, for guests
// to find outside.
var outsideAddress = netip.MustParseAddr("192.0.2.1")

func giveAddress(t *testing.T, name string, a netip.Addr) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		err = ifr.SetInet4Addr(a.AsSlice())
	}
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCSIFADDR, ifr)
	}
	if err != nil {
		t.Fatalf("address of %s: %v", name, err)
	}
}

// machine is a guest on the LAN, with this program in it.
type machine struct {
	t    *testing.T
	name string
	vm   *supervisor.ServiceVM
	in   io.Writer
	out  *bufio.Reader
}

// programDir is a directory with this program in it, for guests.
func programDir(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "program"), program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// didNotStart says why, with the last words of the guest's kernel.
func didNotStart(t *testing.T, name string, err error) {
	t.Helper()
	if g, ok := errors.AsType[*supervisor.GuestError](err); ok {
		t.Log(strings.Join(g.Serial, "\n"))
	}
	t.Errorf("%s: %v", name, err)
}

// begin starts this program in the guest.
func (m *machine) begin() error {
	in, stdin := io.Pipe()
	stdout, out := io.Pipe()
	m.in, m.out = stdin, bufio.NewReader(stdout)
	p, err := m.vm.Start(m.t.Context(), proto.Command{Args: []string{"/mnt/test/program", guestMode}}, control.Stdio{In: in, Out: out, Err: out})
	if err != nil {
		return err
	}
	go func() {
		_, err := p.Wait(m.t.Context())
		out.CloseWithError(fmt.Errorf("the program in the guest has ended: %v", err))
	}()
	return nil
}

// ask has the program do something, and gives what it answers.
func (m *machine) ask(format string, args ...any) string {
	m.t.Helper()
	began := time.Now()
	question := fmt.Sprintf(format, args...)
	_, err := io.WriteString(m.in, question+"\n")
	var answer string
	if err == nil {
		answer, err = m.out.ReadString('\n')
	}
	if err != nil {
		m.t.Fatalf("%s: %s: %q, %v", m.name, question, answer, err)
	}
	m.t.Logf("%s: %s: %.60s (%v)", m.name, question, answer, time.Since(began).Round(time.Millisecond))
	return strings.TrimSuffix(answer, "\n")
}

// fails reports whether an answer is that something could not be done.
func fails(answer string) bool { return strings.HasPrefix(answer, "failed: ") }

// answerRPC answers requests that a guest makes by vsock.
func answerRPC(t *testing.T, vm *supervisor.ServiceVM) {
	t.Helper()
	l, err := vm.Machine().Vsock().Listen(rpcPort)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

// compareCaptures has two guests record what they send while they speak with each other, and
// holds it against what the monitor captures.
func compareCaptures(t *testing.T, e *ear, common string, web, db *machine, port int) {
	t.Helper()
	c := captureAll(t, e.mon)
	address := map[*machine]string{web: "10.1.0.3", db: "10.1.0.2"} // of the other
	for _, ask := range []string{"record", "mark " + firstMark, "", "mark " + lastMark, "recorded"} {
		for _, m := range []*machine{web, db} {
			switch ask {
			case "":
				if m == web {
					m.ask("dial %s:%d 60s", address[m], port)
					m.ask("resolve db")
					m.ask("datagram %s:%d once more", address[m], port)
				}
			case "record":
				m.ask("record")
			case "recorded":
				if got := m.ask("recorded /mnt/%s/%s.frames", m.name, m.name); got != "saved" {
					t.Errorf("%s: %s", m.name, got)
				}
			default:
				mark, text, _ := strings.Cut(ask, " ")
				m.ask("%s %s:%d %s", mark, address[m], port, text)
			}
		}
	}
	c.recorded(t, common, web.name, db.name)
}

// TestVMs has three guests on two VLANs, one of which is joined with a TAP: what is declared works, with a name, an
// address by DHCP and segments of 64 KiB; what is not, does not; who speaks for others
// is not heard.
func TestVMs(t *testing.T) {
	testkvm.Need(t)
	dir := programDir(t)
	giveAddress(t, "lo:1", outsideAddress)
	l, err := net.Listen("tcp", netip.AddrPortFrom(outsideAddress, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go sendBulk(l)
	const database = 5432
	common := t.TempDir()
	card := fmt.Sprintf("wlan%d", os.Getpid()%100000)
	ear := newEar(t)
	pkg, err := kernelpkg.Default(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	allow := []declaration.Allow{
		{From: declaration.List{"web"}, To: declaration.List{"db"}, Ports: declaration.List{fmt.Sprintf("tcp/%d", database), fmt.Sprintf("udp/%d", database), "icmp"}},
		{From: declaration.List{"web"}, To: declaration.List{"db"}, Ports: declaration.List{"tcp/8000"}, HTTP: &declaration.HTTP{Method: declaration.List{"GET"}, Path: declaration.List{"/v1/*"}}},
		{From: declaration.List{"other"}, To: declaration.List{"uplink.back"}, Ports: declaration.List{"tcp/1024-65535"}},
		{From: declaration.List{"trunk"}, To: declaration.List{"web", "other"}, Ports: declaration.List{"udp/7"}},
	}
	n, err := New(Config{
		VLANs: []VLAN{{Name: "front", Network: netip.MustParsePrefix("10.1.0.0/24"), Network6: netip.MustParsePrefix("fd01::/64")}, {Name: "back", Network: netip.MustParsePrefix("10.2.0.0/24"), Uplink: card}},
		Allow: allow,
	}, []Service{
		{Name: "web", LAN: declaration.LAN{VLAN: "front", DHCP: true, Egress: []declaration.Egress{{To: declaration.List{outsideAddress.String()}, Ports: declaration.List{fmt.Sprintf("tcp/%d", l.Addr().(*net.TCPAddr).Port)}}}}},
		{Name: "db", LAN: declaration.LAN{VLAN: "front", Publish: declaration.List{fmt.Sprintf("127.0.0.1:0:%d", database)}}},
		{Name: "other", LAN: declaration.LAN{VLAN: "back"}},
		{Name: "watcher", LAN: declaration.LAN{Mirror: declaration.List{"web", "db"}}},
		{Name: "trunk", LAN: declaration.LAN{Trunk: declaration.List{"front", "back"}}},
	}, Options{Inspector: ear.mon, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	neighbour := netip.MustParseAddr("10.2.0.9")
	giveAddress(t, card, neighbour)
	beside, err := net.Listen("tcp", netip.AddrPortFrom(neighbour, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer beside.Close()
	go sendBulk(beside)
	vms := map[string]*machine{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, name := range []string{"web", "db", "other"} {
		all.Go(func() {
			card, _ := n.Interface(name)
			cards := []supervisor.Net{card}
			if second, has := n.Interface(map[string]string{"db": "trunk", "other": "watcher"}[name]); has {
				cards = append(cards, second)
			}
			if name == "web" { // as a guest of another's, it is told nothing of IPv6
				cards[0].Addresses, cards[0].Gateways, cards[0].Resolvers = nil, nil, nil
			}
			vm, err := supervisor.StartVM(t.Context(), supervisor.Spec{
				Name: name, Nets: cards, Shares: []supervisor.Share{{Host: dir, Guest: "/mnt/test", ReadOnly: true}, {Host: common, Guest: "/mnt/" + name}},
				ShareWatcher: func(dir string) (fs.Watcher, error) { return ear.shares.Watch(name, dir) },
				BootTimeout:  5 * time.Minute, VsockWatcher: ear.mon.Vsock(name), Log: slog.New(slog.DiscardHandler),
			})
			if err != nil {
				didNotStart(t, name, err)
				return
			}
			if err := ear.watch.Attach(t.Context(), watch.Target{Name: name, Machine: vm.Machine(), Kernel: pkg.KernelPath, Port: n.Port(name)}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			m := &machine{t: t, name: name, vm: vm}
			if err := m.begin(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			vms[name] = m
		})
	}
	all.Wait()
	for _, m := range vms {
		t.Cleanup(func() { m.vm.Close() })
	}
	if t.Failed() {
		return
	}
	web, db, other := vms["web"], vms["db"], vms["other"]
	for _, port := range []int{database, 81} {
		if got := db.ask("serve :%d", port); got != "serving" {
			t.Fatalf("db: %s", got)
		}
	}
	if got := db.ask("serve-http :8000"); got != "serving" {
		t.Fatalf("db: %s", got)
	}
	sum := bulkSum()
	lost := func(name string, why lan.Reason) uint64 { return n.Port(name).Stats().Lost[why] }
	// It may take its time where a CPU is emulated. What is refused is refused at once.
	const patience = "dial %s 60s"
	for _, c := range []struct {
		from      *machine
		ask, what string
		want      string // "" for nothing that works
	}{
		{web, "own %s", "fd01::/64", lan.Autoconfigured(netip.MustParsePrefix("fd01::/64"), n.Port("web").Config().MAC).String()},
		{web, "resolve %s", "db", "[10.1.0.3 fd01::2]"},
		{web, patience, fmt.Sprintf("db:%d", database), sum},
		{web, patience, fmt.Sprintf("[fd01::2]:%d", database), sum},
		{web, "browse http://%s", "db:8000/v1/users", "200"},
		{web, "browse http://%s", "[fd01::2]:8000/v1/users", "200"},
		{web, "browse http://%s", "db:8000/admin", "403"},
		{db, "resolve %s", "undeclared.example.org", ""},
		{web, patience, l.Addr().String(), sum},
		{db, patience, l.Addr().String(), ""},
		{db, "resolve %s", "web", ""},
		{web, "resolve %s", "other", ""},
		{other, patience, fmt.Sprintf("10.1.0.3:%d", database), ""},
		{other, patience, beside.Addr().String(), sum},
		{web, patience, "10.1.0.3:81", ""},
	} {
		if got := c.from.ask(c.ask, c.what); fails(got) != (c.want == "") || c.want != "" && got != c.want {
			t.Errorf("%s: "+c.ask+": %q, want %q", c.from.name, c.what, got, c.want)
		}
	}
	if got := db.ask("echo :%d", database); got != "echoing" {
		t.Errorf("db: %s", got)
	}
	if got := web.ask("datagram 10.1.0.3:%d hello", database); got != "hello" {
		t.Errorf("web: %s", got)
	}
	if lost("web", lan.Policy) == 0 {
		t.Errorf("nothing of web's was refused by policy: %v", n.Port("web").Stats())
	}
	var out bytes.Buffer
	if status, err := web.vm.Run(t.Context(), proto.Command{Args: []string{"ping", "-c", "1", "-w", "60000", "db"}}, control.Stdio{Out: &out, Err: &out}); err != nil || status != (proto.Status{}) {
		t.Errorf("ping: %+v, %v, %s", status, err, out.String())
	}
	for _, p := range n.Status().Ports {
		if p.Name != "db" || len(p.Published) != 1 {
			continue
		}
		at, _, err := declaration.ParsePublish(p.Published[0])
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		c.Close()
		if len(got) != bulk || err != nil {
			t.Errorf("published: %d bytes, %v", len(got), err)
		}
	}

	compareCaptures(t, ear, common, web, db, database)
	more := &ports{n: n, e: ear, common: common, web: web, db: db, other: other}
	more.mirrored(t, database)
	more.diverted(t, database)
	more.trunked(t)
	// Two VMs put together, on a share, what a third one is not let read.
	const first, second = "echo 0 >/pro", "c/sys/kernel/randomize_va_space"
	for _, c := range []struct {
		by        *machine
		ask, want string
	}{
		{web, "put /mnt/web/script " + first, "put"}, {db, "get /mnt/db/script", first},
		{other, fmt.Sprintf("map /mnt/other/script %d %s", len(first), second), "mapped"},
		{web, "get /mnt/web/script", first + second}, // of those who wrote it
		{db, "get /mnt/db/script", "failed: read /mnt/db/script: operation not permitted"},
	} {
		if got := c.by.ask("%s", c.ask); got != c.want {
			t.Errorf("%s: %s: %q, want %q", c.by.name, c.ask, got, c.want)
		}
	}
	answerRPC(t, web.vm)
	if got := web.ask("rpc pay"); got != "418 I'm a teapot" {
		t.Errorf("by vsock: %q", got)
	}

	before := n.Port("db").Stats().Received
	for _, m := range []*machine{web, other} {
		if got := m.ask("attack %v 10.1.0.3", n.Port("db").Config().MAC); got != "tried" {
			t.Fatal(got)
		}
	}
	want, tried := map[lan.Reason]uint64{}, uint64(0)
	for _, a := range attacks(station{addr: netip.IPv4Unspecified()}, station{addr: netip.IPv4Unspecified()}) {
		want[a.why] += tries
		tried += tries
	}
	last := time.Now().Add(time.Minute) // by when what they have tried is off their queues
	for why, least := range want {
		for _, name := range []string{"web", "other"} {
			got := lost(name, why)
			for ; got < least && time.Now().Before(last); got = lost(name, why) {
				time.Sleep(10 * time.Millisecond)
			}
			if got < least {
				t.Errorf("%s: %d frames lost for %v, want at least %d", name, got, why, least)
			}
		}
	}
	if got := n.Port("db").Stats().Received - before; got >= tried/2 {
		t.Errorf("db got %d frames meanwhile", got)
	}

	// Rules change, over and over, while something is copied.
	stop, changed := make(chan struct{}), make(chan int)
	go func() {
		for i := 0; ; i++ {
			other := []declaration.Allow{{From: declaration.List{"db"}, To: declaration.List{"web"}, Ports: declaration.List{fmt.Sprintf("tcp/%d", 1+i%1000)}}}
			if err := n.SetAllow(append(other, allow...)); err != nil {
				t.Error(err)
			}
			select {
			case <-stop:
				changed <- i
				return
			default:
			}
		}
	}()
	if got := web.ask("dial 10.1.0.3:%d 60s", database); got != sum {
		t.Errorf("while rules changed: %s", got)
	}
	close(stop)
	changes := <-changed
	t.Logf("%d changes of rules while %d bytes were copied", changes, bulk)

	n.Port("web").Isolate(true)
	if got := web.ask("dial 10.1.0.3:%d 1s", database); !fails(got) {
		t.Errorf("web is isolated, and reached db: %s", got)
	}
	if lost("web", lan.Isolated) == 0 {
		t.Error("nothing of web's was lost to its isolation")
	}
	n.Port("web").Isolate(false)
	if got := web.ask("dial 10.1.0.3:%d 60s", database); got != sum {
		t.Errorf("web is put back: %s", got)
	}
	ear.heard(t, n, database, l.Addr().(*net.TCPAddr).Port)
	for name := range vms {
		t.Logf("%s: %+v", name, n.Port(name).Stats())
	}
}
