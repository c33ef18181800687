package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/internal/testkvm"
	"warder/secmon/introspect"
	"warder/supervisor"
)

// busyVariable tells this program that it runs in a guest, and what as.
const busyVariable = "WARDER_TEST_BUSY"

func TestMain(m *testing.M) {
	switch os.Getenv(busyVariable) {
	case "":
		os.Exit(m.Run())
	case "short":
		time.Sleep(time.Duration(os.Getpid()%7) * time.Millisecond)
	case "own":
		answer()
	default:
		busy()
	}
}

// busy has processes and sockets come and go, for ever.
func busy() {
	go forever(func(int) error {
		c := exec.Command("/proc/self/exe")
		c.Env = []string{busyVariable + "=short"}
		return c.Run()
	})
	for _, network := range []string{"tcp4", "tcp6"} {
		address := map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"}[network]
		l, err := net.Listen(network, address)
		if err != nil {
			fmt.Println(err)
			continue
		}
		go forever(func(int) error {
			c, err := l.Accept()
			if err == nil {
				err = c.Close()
			}
			return err
		})
		go forever(func(int) error {
			c, err := net.Dial(network, l.Addr().String())
			if err == nil {
				err = c.Close()
			}
			return err
		})
	}
	go forever(func(int) error {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err == nil {
			time.Sleep(time.Millisecond)
			err = c.Close()
		}
		return err
	})
	go forever(func(n int) error {
		l, err := net.Listen("unix", fmt.Sprintf("@busy%d", n))
		if err == nil {
			time.Sleep(time.Millisecond)
			err = l.Close()
		}
		return err
	})
	fmt.Println("busy")
	select {}
}

func forever(f func(n int) error) {
	for n := 0; ; n++ {
		if err := f(n); err != nil {
			fmt.Println(err)
			time.Sleep(time.Second)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// own is what the guest's /proc says.
type own struct {
	Names []string
	Files map[string]string
}

// answer tells what /proc says, once for each line that it is asked.
func answer() {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		o := own{Files: make(map[string]string)}
		entries, err := os.ReadDir("/proc")
		if err != nil {
			fmt.Println(err)
		}
		for _, e := range entries {
			o.Names = append(o.Names, e.Name())
		}
		for _, f := range introspect.OwnFiles {
			if text, err := os.ReadFile(f); err == nil {
				o.Files[f] = string(text)
			}
		}
		if err := json.NewEncoder(os.Stdout).Encode(o); err != nil {
			return
		}
	}
}

// guest is a busy guest and a client of its process.
type guest struct {
	*Remote
	t      *testing.T
	hosted *Hosted
}

func startGuest(t *testing.T) *guest {
	t.Helper()
	testkvm.Need(t)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "busy"), self, 0o755); err != nil {
		t.Fatal(err)
	}
	vm, err := supervisor.StartVM(t.Context(), supervisor.Spec{
		Name: "busy", CPUs: min(2, runtime.NumCPU()), Memory: 192 << 20, Log: slog.New(slog.DiscardHandler),
		Shares: []supervisor.Share{{Host: dir, Guest: "/mnt/test", ReadOnly: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-vm.Done():
			t.Errorf("it ended: %v\n%s", vm.Ended(), strings.Join(vm.Ended().Serial, "\n"))
		default:
		}
		if err := vm.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	started := make(chan string, 1)
	p, err := vm.Start(t.Context(), proto.Command{Args: []string{"/mnt/test/busy"}, Env: []string{busyVariable + "=busy"}},
		control.Stdio{Out: firstLine(started), Err: firstLine(started)})
	if err != nil {
		t.Fatal(err)
	}
	go p.Wait(context.WithoutCancel(t.Context()))
	select {
	case line := <-started:
		if line != "busy\n" {
			t.Fatalf("the guest's program: %s", line)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the guest's program has not begun")
	}
	sockets := filepath.Join(t.TempDir(), "sockets")
	s := serve(t, sockets)
	h := Service(vm)
	if err := s.Add(h); err != nil {
		t.Fatal(err)
	}
	r, err := Find(t.Context(), sockets, "busy")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return &guest{r, t, h}
}

// firstLine hands on the first that is written.
type firstLine chan<- string

func (f firstLine) Write(p []byte) (int, error) {
	select {
	case f <- string(p):
	default:
	}
	return len(p), nil
}

// ask collects a list about the guest.
func ask[T any](g *guest, path string) []T {
	g.t.Helper()
	return askOf[T](g, path, nil)
}

func askOf[T any](g *guest, path string, query url.Values) []T {
	g.t.Helper()
	var all []T
	for raw, err := range g.Stream(g.t.Context(), path, query) {
		if err != nil {
			g.t.Fatalf("%s: %v", path, err)
		}
		all = append(all, decode[T](g, raw))
	}
	return all
}

func decode[T any](g *guest, raw []byte) (v T) {
	g.t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		g.t.Fatal(err)
	}
	return v
}

// asks has a program in the guest that tells what /proc says.
type asks struct {
	in  io.Writer
	out *bufio.Reader
}

func (g *guest) own() *asks {
	g.t.Helper()
	in, stdin := io.Pipe()
	stdout, out := io.Pipe()
	p, err := g.hosted.Service.Start(g.t.Context(), proto.Command{Args: []string{"/mnt/test/busy"}, Env: []string{busyVariable + "=own"}},
		control.Stdio{In: in, Out: out})
	if err != nil {
		g.t.Fatal(err)
	}
	go func() {
		p.Wait(context.WithoutCancel(g.t.Context()))
		out.Close()
	}()
	g.t.Cleanup(func() { stdin.Close(); stdout.Close() })
	return &asks{stdin, bufio.NewReader(stdout)}
}

func (a *asks) view(context.Context) (introspect.OwnView, error) {
	if _, err := io.WriteString(a.in, "\n"); err != nil {
		return introspect.OwnView{}, err
	}
	line, err := a.out.ReadBytes('\n')
	if err != nil {
		return introspect.OwnView{}, err
	}
	var o own
	if err := json.Unmarshal(line, &o); err != nil {
		return introspect.OwnView{}, fmt.Errorf("%s: %w", line, err)
	}
	return introspect.ParseOwn(o.Names, o.Files), nil
}

// compare holds the guest's own view against its memory so often, and fails for
// each difference.
func (g *guest) compare(times int) {
	g.t.Helper()
	l, err := g.hosted.live(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	a := g.own()
	processes, sockets := 0, 0
	start := time.Now()
	for i := range times {
		all, err := l.Compare(g.t.Context(), func(ctx context.Context) (introspect.OwnView, error) {
			v, err := a.view(ctx)
			processes, sockets = processes+len(v.Processes), sockets+len(v.Sockets)
			return v, err
		})
		if err != nil {
			g.t.Fatal(err)
		}
		for _, d := range all {
			g.t.Errorf("comparison %d: %+v", i, d)
		}
	}
	g.t.Logf("%d comparisons in %v: of %d processes and %d sockets", times, time.Since(start), processes/2, sockets/2)
	if processes < 20*times || sockets < 3*times {
		g.t.Error("the guest was not busy")
	}
}

func TestLookIntoABusyGuest(t *testing.T) {
	g := startGuest(t)
	start := time.Now()
	processes := ask[introspect.ProcessInfo](g, "/inspect/ps")
	t.Logf("first ps after %v", time.Since(start))
	busy := slices.IndexFunc(processes, func(p introspect.ProcessInfo) bool { return slices.Equal(p.Args, []string{"/mnt/test/busy"}) })
	if busy < 0 {
		t.Fatalf("the guest's program is not among %+v", processes)
	}
	if p := processes[busy]; p.Exe != "/mnt/test/busy" || p.Threads < 2 || p.Started <= 0 || p.Namespaces["net"] == 0 || len(p.Missing) > 0 {
		t.Errorf("%+v", p)
	}
	pid := processes[busy].PID

	t.Run("agrees with the guest", func(t *testing.T) {
		g.t = t
		g.compare(8)
		if all := ask[introspect.Difference](g, "/diff"); len(all) > 0 {
			t.Errorf("differences %+v", all)
		}
		g.sameAsProc(pid)
	})
	t.Run("code is where it belongs", func(t *testing.T) {
		g.t = t
		for _, s := range ask[introspect.SyscallInfo](g, "/inspect/syscalls") {
			if s.Suspect != "" {
				t.Errorf("%+v", s)
			}
		}
		for range 20 { // in programs and in the kernel
			for _, v := range ask[introspect.VectorInfo](g, "/inspect/vectors") {
				if v.Suspect != "" {
					t.Errorf("%+v", v)
				}
			}
		}
		for _, h := range ask[introspect.HookInfo](g, "/inspect/lsm") {
			if h.Suspect != "" || h.LSM == "" {
				t.Errorf("%+v", h)
			}
		}
	})
	t.Run("hidden process", func(t *testing.T) { g.t = t; g.hide(pid) })
	t.Run("core file", func(t *testing.T) { g.t = t; g.core() })
	t.Run("kernel from memory", func(t *testing.T) { g.t = t; g.kernelFromMemory() })
}

// ownMaps is what the guest itself says of a process's memory, in the form of what
// is compared with it.
func (g *guest) ownMaps(pid int) (maps []string) {
	g.t.Helper()
	for line := range strings.Lines(g.cat(fmt.Sprintf("cat /proc/%d/maps", pid))) {
		f := strings.Fields(line)
		offset, _ := strconv.ParseUint(f[2], 16, 64)
		switch name := strings.Join(f[5:], " "); name {
		case "[vsyscall]": // the same page for all, of which no process's mappings know
		case "[vvar]", "[vvar_vclock]": // the kernel's own, which it names by code
			maps = append(maps, strings.TrimSpace(fmt.Sprintf("%s %s %x %s", f[0], f[1], 0, f[4])))
		default:
			if f[4] == "0" {
				offset = 0
			}
			maps = append(maps, strings.TrimSpace(fmt.Sprintf("%s %s %x %s %s", f[0], f[1], offset, f[4], name)))
		}
	}
	return maps
}

// sameAsProc compares what is known of a process with its directory in /proc.
func (g *guest) sameAsProc(pid int) {
	g.t.Helper()
	query := url.Values{"pid": {fmt.Sprint(pid)}}
	// The process goes on, and its heap grows now and then: what counts is a look
	// around which the guest's own answer stays the same.
	var maps, ownMaps []string
	for looks := 0; ; looks++ {
		before := g.ownMaps(pid)
		maps = maps[:0]
		for _, m := range askOf[introspect.MapInfo](g, "/inspect/maps", query) {
			maps = append(maps, strings.TrimSpace(fmt.Sprintf("%08x-%08x %s %x %d %s", uint64(m.Start), uint64(m.End), m.Perms, m.Offset, m.Inode, m.Name)))
		}
		if ownMaps = g.ownMaps(pid); slices.Equal(before, ownMaps) {
			break
		}
		if looks == 20 {
			g.t.Fatalf("the memory map of process %d has changed at each of %d looks", pid, looks)
		}
	}
	var mounts, ownMounts []string
	for _, m := range askOf[introspect.MountInfo](g, "/inspect/mounts", query) {
		mounts = append(mounts, fmt.Sprintf("%d %d %s %s %s %s %s %s", m.ID, m.Parent, m.Device, m.Root, m.Target, m.Options, m.FS, m.Source))
	}
	for line := range strings.Lines(g.cat(fmt.Sprintf("cat /proc/%d/mountinfo", pid))) {
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		f, fs := strings.Fields(before), strings.Fields(after)
		ownMounts = append(ownMounts, strings.Join(append(f[:6:6], fs[:2]...), " "))
	}
	slices.Sort(mounts)
	slices.Sort(ownMounts)
	if d := cmp.Diff(ownMaps, maps); d != "" {
		g.t.Errorf("memory map (-the guest's +ours):\n%s", d)
	}
	if d := cmp.Diff(ownMounts, mounts); d != "" {
		g.t.Errorf("mounts (-the guest's +ours):\n%s", d)
	}
	files := askOf[introspect.FileInfo](g, "/inspect/files", query)
	exe := slices.IndexFunc(files, func(f introspect.FileInfo) bool { return f.FD == 1 })
	if exe < 0 || files[exe].Name != g.cat(fmt.Sprintf("readlink /proc/%d/fd/1", pid)) {
		g.t.Errorf("standard output is not among %+v", files)
	}
}

// cat reads a file in the guest.
func (g *guest) cat(script string) string {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(g.t.Context(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	if _, err := g.hosted.Service.Run(ctx, proto.Command{Args: []string{"sh", "-c", script}}, control.Stdio{Out: &out}); err != nil {
		g.t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

// hide takes a process off the kernel's list by writing to its memory, as a
// rootkit would, and puts it back.
func (g *guest) hide(pid int) {
	ctx := g.t.Context()
	l, err := g.hosted.live(ctx)
	if err != nil {
		g.t.Fatal(err)
	}
	processes, err := l.Processes(ctx)
	if err != nil {
		g.t.Fatal(err)
	}
	i := slices.IndexFunc(processes, func(p introspect.ProcessInfo) bool { return p.PID == pid })
	node, err := l.Struct(ctx, "struct task_struct", uint64(processes[i].Task), "tasks")
	if err != nil {
		g.t.Fatal(err)
	}
	at := uint64(node.Addr)
	word := func(at uint64) (v uint64) {
		var p [8]byte
		if err := l.Read(ctx, 0, at, p[:]); err != nil {
			g.t.Fatal(err)
		}
		for i, b := range p {
			v |= uint64(b) << (8 * i)
		}
		return v
	}
	put := func(at, v uint64) {
		var p [8]byte
		for i := range p {
			p[i] = byte(v >> (8 * i))
		}
		if err := l.Write(ctx, 0, at, p[:]); err != nil {
			g.t.Fatal(err)
		}
	}
	// The neighbours must not change in between.
	err = g.hosted.Machine.WithVCPUsStopped(func() error {
		next, prev := word(at), word(at+8)
		put(prev, next)
		put(next+8, prev)
		put(at, at)
		put(at+8, at)
		return nil
	})
	if err != nil {
		g.t.Fatal(err)
	}
	hidden := false
	for _, p := range ask[introspect.ProcessInfo](g, "/inspect/ps") {
		if p.PID == pid {
			hidden = p.Hidden
			g.t.Logf("hidden process %d is seen in %v", pid, p.Seen)
		} else if p.Hidden {
			g.t.Errorf("%+v is not hidden", p)
		}
	}
	if !hidden {
		g.t.Errorf("process %d was taken off the list and is not marked", pid)
	}
}
