package trap_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/internal/testguest"
	"warder/internal/testkvm"
	"warder/secmon/event"
	"warder/secmon/syscalls"
	"warder/secmon/trap"
	"warder/vmm"
)

// many makes calls of every kind of parameter, and says for each what strace
// would have written.
var many = testguest.Register("many", func(g *testguest.Guest) {
	runtime.LockOSThread()
	g.Check(os.MkdirAll("/mnt/share", 0o755))
	g.Check(unix.Mount("files", "/mnt/share", "virtiofs", 0, ""))
	g.Check(os.MkdirAll("/tmp/m", 0o755))
	g.Check(os.Chdir("/tmp/m"))
	loopback(g)
	pause(g, "armed")

	dir, err := unix.Open("/tmp/m", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	g.Check(err)
	g.Check(unix.Mkdirat(dir, "sub", 0o750))
	g.Check(unix.Renameat2(dir, "sub", unix.AT_FDCWD, "other", unix.RENAME_NOREPLACE))
	g.Check(unix.Symlinkat("target text", dir, "link"))
	g.Check(unix.Unlinkat(dir, "link", 0))
	g.Check(unix.Fchmodat(unix.AT_FDCWD, "other", 0o711, 0))
	_, err = unix.Mmap(-1, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	g.Check(err)
	server, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	g.Check(err)
	g.Check(unix.Bind(server, &unix.SockaddrInet4{Port: 7777, Addr: [4]byte{127, 0, 0, 1}}))
	g.Check(unix.Listen(server, 5))
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	g.Check(err)
	g.Check(unix.Connect(client, &unix.SockaddrInet4{Port: 7777, Addr: [4]byte{127, 0, 0, 1}}))
	conn, _, err := unix.Accept4(server, unix.SOCK_CLOEXEC)
	g.Check(err)
	_, err = unix.Writev(client, [][]byte{[]byte("in "), []byte("pieces")})
	g.Check(err)
	buf := make([]byte, 100)
	_, err = unix.Read(conn, buf)
	g.Check(err)
	g.Check(os.WriteFile("file", []byte("of a file"), 0o600))
	file, err := unix.Open("file", unix.O_RDONLY, 0)
	g.Check(err)
	_, err = unix.Sendfile(client, file, nil, 4)
	g.Check(err)
	_, err = unix.Readv(conn, [][]byte{buf})
	g.Check(err)
	udp, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP)
	g.Check(err)
	g.Check(unix.Sendto(udp, []byte("datagram"), unix.MSG_NOSIGNAL, &unix.SockaddrInet6{Port: 53, Addr: [16]byte{15: 1}}))
	local, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	g.Check(err)
	_ = unix.Connect(local, &unix.SockaddrUnix{Name: "/run/nobody"})
	g.Check(unix.Kill(os.Getpid(), 0))
	out, err := exec.Command("/proc/self/exe", "-test.run=^$", "an argument").CombinedOutput()
	g.Report("ran", [2]string{fmt.Sprint(err), string(out)})
	pause(g, "done")
})

// loopback takes the interface lo up.
func loopback(g *testguest.Guest) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	g.Check(err)
	ifr, err := unix.NewIfreq("lo")
	g.Check(err)
	ifr.SetUint16(unix.IFF_UP)
	g.Check(unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr))
	g.Check(unix.Close(fd))
	_, err = net.InterfaceByName("lo")
	g.Check(err)
}

// TestCallsAreDecoded holds calls of every kind of parameter against what strace
// writes of them, and the program that a child runs against what it was.
func TestCallsAreDecoded(t *testing.T) {
	testkvm.Need(t)
	dir := t.TempDir()
	k := kernel(t)
	r := many.Start(t, vmm.Config{CPUs: min(2, runtime.NumCPU()), Shares: []vmm.Share{{Tag: "files", Dir: dir}}})
	pid := testguest.Get[uint32](r, "armed")
	rec, back := &recorder{}, &recorder{}
	tr, err := trap.Arm(t.Context(), trap.Of(r.Machine), trap.Config{
		VM: "vm", Kernel: k, Process: true, Arguments: true, Data: 32, Sink: rec.sink, Result: func(e event.Event) { back.sink(e) },
		Calls: []string{
			"openat", "mkdirat", "renameat2", "symlinkat", "unlinkat", "fchmodat", "mmap", "socket", "bind", "listen", "connect", "accept4",
			"writev", "read", "sendto", "kill", "execve",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	onSockets, flows := &recorder{}, &recorder{}
	calls := []string{"write", "writev", "sendfile", "read", "readv"}
	tr2, err := trap.Arm(t.Context(), trap.Of(r.Machine), trap.Config{
		VM: "vm", Kernel: k, Sink: onSockets.sink, Calls: calls, Flows: calls, Sockets: calls, Flow: func(e event.Event) { flows.sink(e) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/armed", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := testguest.Get[[2]string](r, "ran"); got[0] != "<nil>" {
		t.Errorf("the child: %v, %s", got[0], got[1])
	}
	testguest.Get[uint32](r, "done")
	events := rec.all()
	for _, tr := range []*trap.Traps{tr, tr2} {
		if err := tr.Disarm(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	checkSockets(t, onSockets.all(), flows.all())
	if err := os.WriteFile(dir+"/done", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.Finish()

	checkResults(t, back.all(), pid)
	want := []string{
		`openat(AT_FDCWD, "/tmp/m", O_RDONLY|O_CLOEXEC|O_DIRECTORY)`,
		`mkdirat(D, "sub", 0750)`,
		`renameat2(D, "sub", AT_FDCWD, "other", RENAME_NOREPLACE)`,
		`symlinkat("target text", D, "link")`,
		`unlinkat(D, "link", 0)`,
		`fchmodat(AT_FDCWD, "other", 0711)`,
		`mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)`,
		`socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP)`,
		`bind(S, {sa_family=AF_INET, sin_port=htons(7777), sin_addr=inet_addr("127.0.0.1")}, 16)`,
		`listen(S, 5)`,
		`socket(AF_INET, SOCK_STREAM, IPPROTO_IP)`,
		`connect(C, {sa_family=AF_INET, sin_port=htons(7777), sin_addr=inet_addr("127.0.0.1")}, 16)`,
		`writev(C, [{iov_base="in ", iov_len=3}, {iov_base="pieces", iov_len=6}], 2)`,
		`socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP)`,
		`sendto(U, "datagram", 8, MSG_NOSIGNAL, {sa_family=AF_INET6, sin6_port=htons(53), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28)`,
		`socket(AF_UNIX, SOCK_STREAM, 0)`,
		fmt.Sprintf(`kill(%d, 0)`, pid),
	}
	var got []string
	for _, e := range events {
		s := syscalls.Format(&e.Call, 32)
		if e.Process.PID == pid {
			got = append(got, s)
		}
	}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(s string) bool { return sameCall(s, w) }) {
			t.Errorf("no %s", w)
		}
	}
	if t.Failed() {
		t.Logf("seen:\n%s", strings.Join(got, "\n"))
	}
	checkFlows(t, events)
	checkChild(t, events, pid)
}

// sameCall compares two lines, where a capital letter alone stands for any
// number.
func sameCall(got, want string) bool {
	pattern := regexp.QuoteMeta(want)
	pattern = regexp.MustCompile(`\b[DSCUP]\b|\b0xA\b`).ReplaceAllString(pattern, "[0-9a-fx]+")
	return regexp.MustCompile("^" + pattern + "$").MatchString(got)
}

func checkFlows(t *testing.T, events []event.Event) {
	t.Helper()
	var flows []string
	for _, e := range events {
		if n := e.Net; n != nil {
			source := "-"
			if n.Source.IsValid() {
				source = "set"
			}
			flows = append(flows, fmt.Sprintf("%s %s to %v from %s, initiated %v", e.Call.Name, n.Transport, n.Destination, source, n.Initiated))
		}
	}
	want := []string{
		"bind tcp to 127.0.0.1:7777 from -, initiated false",
		"listen tcp to 127.0.0.1:7777 from -, initiated false",
		"connect tcp to 127.0.0.1:7777 from -, initiated true",
		"accept4 tcp to 127.0.0.1:7777 from -, initiated false",
		"writev tcp to 127.0.0.1:7777 from set, initiated true",
		"read tcp to 127.0.0.1:7777 from set, initiated false",
		"sendto udp to [::1]:53 from -, initiated true",
	}
	if d := cmp.Diff(want, flows); d != "" {
		t.Errorf("flows (-want +got):\n%s", d)
	}
}

// checkSockets looks at what files and sockets are read and written with: told is only what
// is done with sockets, and it is all of one flow.
func checkSockets(t *testing.T, calls, flows []event.Event) {
	t.Helper()
	var got []string
	for _, e := range append(calls, flows...) {
		n := e.Net
		if n == nil {
			t.Errorf("%s on no socket is told: %+v", e.Call.Name, e.Call.File)
			continue
		}
		if n.Flow == 0 || n.Flow != flows[0].Net.Flow {
			t.Errorf("%s %s is of the flow %d", e.Call.Name, e.Action, n.Flow)
		}
		got = append(got, fmt.Sprintf("%s%s %d", e.Call.Name, e.Action, n.Bytes[0]))
	}
	want := []string{"writev 0", "read 0", "sendfile 0", "readv 0", "send 9", "receive 9", "send 4", "receive 4"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("on sockets (-want +got):\n%s", d)
	}
}

// checkResults looks at what calls gave the guest.
func checkResults(t *testing.T, events []event.Event, pid uint32) {
	t.Helper()
	want := []string{
		`openat(AT_FDCWD, "/tmp/m", O_RDONLY|O_CLOEXEC|O_DIRECTORY) = D`,
		`mkdirat(D, "sub", 0750) = 0`,
		`accept4(S, {sa_family=AF_INET, sin_port=htons(P), sin_addr=inet_addr("127.0.0.1")}, 0xA, SOCK_CLOEXEC) = D`,
		`read(D, "in pieces", 100) = 9`,
		`sendto(D, "datagram", 8, MSG_NOSIGNAL, {sa_family=AF_INET6, sin6_port=htons(53), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "::1", &sin6_addr), sin6_scope_id=0}, 28) = 8`,
		`connect(D, {sa_family=AF_UNIX, sun_path="/run/nobody"}, 14) = -1 ENOENT (No such file or directory)`,
		`kill(1, 0) = 0`,
	}
	var got []string
	for _, e := range events {
		if e.Process.PID == pid {
			got = append(got, syscalls.Format(&e.Call, 32))
		}
		if e.Call.Took < 0 {
			t.Errorf("%s took %d ns", e.Call.Name, e.Call.Took)
		}
	}
	for _, w := range want {
		if !slices.ContainsFunc(got, func(s string) bool { return sameCall(s, w) }) {
			t.Errorf("no %s", w)
		}
	}
	if t.Failed() {
		t.Logf("returned:\n%s", strings.Join(got, "\n"))
	}
}

// checkChild looks at the process that the guest started.
func checkChild(t *testing.T, events []event.Event, parent uint32) {
	t.Helper()
	// The link in /proc leads nowhere that can be seen from outside: the kernel's own
	// check tells which file it is.
	i := slices.IndexFunc(events, func(e event.Event) bool { return e.Call.Name == "execve" && e.Process.Exe != "" })
	if i < 0 {
		t.Fatal("no execve")
	}
	p := events[i].Process
	if p.Exe != "/init" || p.Args != "/proc/self/exe\x00-test.run=^$\x00an argument\x00" || p.Dir != "/tmp/m" || p.Parent != parent ||
		p.ParentExe != "/init" || p.ParentArgs != "/init\x00" || p.PID == parent {
		t.Errorf("a program was started: %+v", p)
	}
	if events[i].Call.Missing != event.MissingArgs {
		t.Errorf("missing of it: %v", events[i].Call.Missing.Names())
	}
	j := slices.IndexFunc(events, func(e event.Event) bool { return e.Process.PID == p.PID && e.Call.Name == "openat" })
	if j < 0 {
		t.Fatal("the child opened nothing")
	}
	if c := events[j].Process; c.Exe != p.Exe || c.Args != p.Args {
		t.Errorf("the child runs %q with %q", c.Exe, c.Args)
	}
}
