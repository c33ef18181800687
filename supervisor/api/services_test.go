package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/supervisor/decision"
	"warder/supervisor/declaration"
	"warder/supervisor/hosting"
	"warder/supervisor/services"
	"warder/supervisor/sizing"
	"warder/supervisor/verify"
)

// echoes is a host of VMs in which each command says its words, then copies its
// input, and ends with the status that its last word is. Without input it runs
// until its VM is stopped, and so does one whose first word is deaf.
type echoes struct{}

func (echoes) Claim(d declaration.Service) (verify.Claim, error) {
	for _, disk := range d.Disks {
		if !strings.HasPrefix(disk, "/") {
			return verify.Claim{}, fmt.Errorf("disk %s is relative", disk)
		}
	}
	return verify.Claim{VCPUs: d.CPUs, Things: []verify.Thing{{Kind: "name", Name: d.Name}}}, nil
}

func (echoes) Join(_ declaration.Service, keep func([]netip.Addr) error) error { return keep(nil) }

func (echoes) Leave(string) {}

func (echoes) Boot(context.Context, declaration.Service) (hosting.VM, error) {
	return &echo{done: make(chan struct{}), sizes: make(chan string, 8)}, nil
}

type echo struct {
	once  sync.Once
	done  chan struct{}
	sizes chan string // and signals, as the processes got them
}

func (e *echo) Done() <-chan struct{} { return e.done }
func (e *echo) Ended() error          { return nil }
func (e *echo) Serial() []byte        { return []byte("kernel\x1b says\n") }
func (e *echo) Use(context.Context) hosting.Use {
	return hosting.Use{VCPUs: 1, CPUTime: time.Second, DeviceTime: time.Millisecond, Exits: map[string]uint64{"mmio": 3}, Guest: &hosting.GuestUse{Pressure: &hosting.Pressure{CPU: 0.5}}}
}

func (e *echo) Sample(context.Context) (sizing.Sample, error) {
	size := sizing.Size{CPUs: 1}
	return sizing.Sample{Time: time.Now(), Asked: size, Has: size}, nil
}
func (e *echo) Shortages() <-chan proto.Shortage                       { return nil }
func (e *echo) Resize(context.Context, sizing.Size, sizing.Size) error { return nil }

func (e *echo) Stop(context.Context, time.Duration) error {
	e.once.Do(func() { close(e.done) })
	return nil
}

func (e *echo) Start(_ context.Context, cmd proto.Command, stdio control.Stdio) (hosting.Process, error) {
	if cmd.Args[0] == "nothing" {
		return nil, proto.Errorf(proto.CodeNotFound, "nothing: no such program")
	}
	p := &echoProcess{vm: e, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		fmt.Fprintln(stdio.Out, strings.Join(cmd.Args, " "))
		if stdio.In == nil || cmd.Args[0] == "deaf" {
			<-e.done
			return
		}
		fmt.Fprint(stdio.Err, "reading")
		copied := make(chan struct{})
		go func() {
			defer close(copied)
			io.Copy(stdio.Out, stdio.In)
		}()
		select {
		case <-copied:
		case <-e.done:
		}
		fmt.Sscan(cmd.Args[len(cmd.Args)-1], &p.status.Code)
	}()
	return p, nil
}

type echoProcess struct {
	vm     *echo
	status proto.Status
	done   chan struct{}
}

func (p *echoProcess) Wait(ctx context.Context) (proto.Status, error) {
	select {
	case <-p.done:
		return p.status, nil
	case <-ctx.Done():
		p.vm.sizes <- "killed"
		return proto.Status{}, ctx.Err()
	}
}

func (p *echoProcess) Signal(_ context.Context, n int) error {
	p.vm.sizes <- fmt.Sprint("signal ", n)
	return nil
}

func (p *echoProcess) Resize(_ context.Context, cols, rows uint16) error {
	p.vm.sizes <- fmt.Sprint(cols, "x", rows)
	return nil
}

func (echoes) Measure() (map[string]uint64, uint64) { return nil, 0 }

// supervised is a host of services with these names, and with a supervisor.
func supervised(t *testing.T, machines hosting.Machines, cfg hosting.Config, list ...declaration.Service) *hosting.Host {
	t.Helper()
	h := hosting.New(machines, nil, cfg)
	for _, d := range list {
		if err := h.Declare(d); err != nil {
			t.Fatal(err)
		}
	}
	here, there := net.Pipe()
	go decision.Serve(context.Background(), there)
	if _, err := h.Connect(t.Context(), here); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
		here.Close()
	})
	return h
}

// hostOf serves services of these names, and gives their host as a client sees it.
func hostOf(t *testing.T, names ...string) (*Host, *hosting.Host) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "sockets")
	s := serve(t, dir, "vm")
	if _, err := FindHost(t.Context(), dir, 0); err == nil || !strings.Contains(err.Error(), "warder host") {
		t.Errorf("a process without services: %v", err)
	}
	var list []declaration.Service
	for _, name := range names {
		list = append(list, declaration.Service{Name: name, CPUs: 1, Command: []string{"I am", name}})
	}
	own := supervised(t, echoes{}, hosting.Config{Capacity: verify.Capacity{VCPUs: 2}}, list...)
	s.HostServices(own)
	h, err := FindHost(t.Context(), dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	if _, err := FindHost(t.Context(), dir, h.PID+1); err == nil {
		t.Error("another process's services were found here")
	}
	return h, own
}

func code(t *testing.T, err error, want Code) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Code != want {
		t.Errorf("error %v, want one of code %s", err, want)
		return &Error{}
	}
	return e
}

func TestServicesOverTheSocket(t *testing.T) {
	h, _ := hostOf(t, "a", "b", "c")
	ctx := t.Context()
	for _, name := range []string{"a", "b"} {
		if st, err := h.Start(ctx, name); err != nil || st.State != services.Running || !strings.HasPrefix(st.By, "uid ") {
			t.Fatalf("%+v, %v", st, err)
		}
	}
	_, err := h.Start(ctx, "c")
	code(t, err, Refused)
	if r, ok := errors.AsType[*verify.Refusal](err); !ok || r.Resource != "vcpus" || r.Wanted != 1 || r.Free != 0 || r.Committed != 2 {
		t.Errorf("%+v", r)
	}
	_, err = h.Start(ctx, "a")
	code(t, err, Unavailable)
	var said bytes.Buffer
	if err := h.Console(ctx, "a", &said); err != nil || said.String() != "kernel\x1b says\n" {
		t.Errorf("%q, %v", said.String(), err)
	}
	code(t, h.Console(ctx, "c", &said), Unavailable)
	_, err = h.Start(ctx, "x/../a")
	code(t, err, NotFound)
	if b, err := h.Resources(ctx); err != nil || len(b.Grants) != 2 || b.Grants[1].Holder != "b" {
		t.Errorf("%+v, %v", b, err)
	}

	for l, err := range h.Logs(ctx, "a", 1, true) { // a stream that has no end
		if err != nil || l.Text != "I am a" {
			t.Errorf("%+v, %v", l, err)
		}
		break
	}
	for _, err := range h.Logs(ctx, "x", -1, true) {
		code(t, err, NotFound)
	}
	waited := make(chan services.Status, 1)
	go func() {
		st, err := h.Wait(ctx, "a")
		if err != nil {
			t.Error(err)
		}
		waited <- st
	}()
	if st, err := h.Stop(ctx, "a", time.Second); err != nil || st.State != services.Stopped {
		t.Errorf("%+v, %v", st, err)
	}
	if st := <-waited; st.State != services.Stopped {
		t.Errorf("%+v", st)
	}
	var seen []string
	for e, err := range h.Events(ctx, "a", false) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, string(e.State))
	}
	if got := strings.Join(seen, " "); got != "starting running stopping stopped" {
		t.Errorf("events: %s", got)
	}
	for _, err := range h.Events(ctx, "x", true) {
		code(t, err, NotFound)
	}
	if all, err := h.Services(ctx); err != nil || len(all) != 3 || all[2].Name != "c" {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestAddAndRemove(t *testing.T) {
	h, _ := hostOf(t, "a")
	ctx := t.Context()
	src := []byte("name: new\ncommand: [x]\ndisks: [d]\n")
	if st, err := h.Add(ctx, "new", src, "/base"); err != nil || st.State != services.Stopped || st.Service.Disks[0] != "/base/d" {
		t.Errorf("%+v, %v", st, err)
	}
	for _, bad := range []struct{ name, src, base, says string }{
		{"other", string(src), "/base", "is of new"},
		{"new", string(src), "base", "absolute"},
		{"new", "name: new\ncolour: red\n", "/", "unknown field"},
		{"new", "name: new\n" + strings.Repeat("#", declaration.MaxFile), "/", "too large"},
	} {
		_, err := h.Add(ctx, bad.name, []byte(bad.src), bad.base)
		if e := code(t, err, BadRequest); !strings.Contains(e.Message, bad.says) {
			t.Errorf("%v, want one that says %q", err, bad.says)
		}
	}
	_, err := h.Add(ctx, "a", []byte("name: a"), "/")
	code(t, err, Unavailable)
	_, err = h.Remove(ctx, "a")
	code(t, err, Unavailable)
	if _, err := h.Remove(ctx, "new"); err != nil {
		t.Error(err)
	}
	_, err = h.Service(ctx, "new")
	code(t, err, NotFound)
}

func TestAttach(t *testing.T) {
	h, own := hostOf(t, "a")
	ctx := t.Context()
	if _, err := own.Add(ctx, declaration.Service{Name: "cat", Stdin: true, Command: []string{"cat", "3"}}); err != nil {
		t.Fatal(err)
	}
	_, err := h.Attach(ctx, "cat", true)
	code(t, err, Unavailable)
	for _, name := range []string{"a", "cat"} {
		if _, err := h.Start(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	_, err = h.Attach(ctx, "a", true)
	code(t, err, BadRequest)
	for l, err := range h.Logs(ctx, "cat", -1, true) { // what it says at first comes before all that is typed
		if err != nil || l.Text != "cat 3" {
			t.Fatalf("%+v, %v", l, err)
		}
		break
	}

	attach := func(in io.Reader) (said *lines, leave func() error, exit <-chan Exit) {
		t.Helper()
		c, err := h.Attach(ctx, "cat", in != nil)
		if err != nil {
			t.Fatal(err)
		}
		said = &lines{ch: make(chan string, 8)}
		running, cancel := context.WithCancel(ctx)
		left, exits := make(chan error, 1), make(chan Exit, 1)
		go func() {
			x, err := c.Run(running, in, said, io.Discard)
			exits <- x
			left <- err
		}()
		return said, func() error { cancel(); return <-left }, exits
	}
	in, typed := io.Pipe()
	first, leave, _ := attach(in)
	watcher, _, exit := attach(nil)
	io.WriteString(typed, "hello\n")
	if a, b := <-first.ch, <-watcher.ch; a != "hello" || b != "hello" {
		t.Errorf("%q and %q", a, b)
	}
	if err := leave(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	_, leave, _ = attach(strings.NewReader("again\n")) // whose end is not that of the command's input
	if got := <-watcher.ch; got != "again" {
		t.Errorf("%q", got)
	}
	leave()
	if st, err := h.Service(ctx, "cat"); err != nil || st.State != services.Running {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := h.Stop(ctx, "cat", time.Second); err != nil {
		t.Fatal(err)
	}
	if x := <-exit; x.Error != nil || x.Status.Code != 3 {
		t.Errorf("%+v", x)
	}
}

// lines hands out what is written line by line.
type lines struct {
	ch  chan string
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.buf.Write(p)
	for {
		line, err := l.buf.ReadString('\n')
		if err != nil {
			l.buf.WriteString(line)
			return len(p), nil
		}
		l.ch <- strings.TrimSuffix(line, "\n")
	}
}

// A client's frames are bounded, and one that sends anything else is hung up on.
func FuzzFrames(f *testing.F) {
	for _, kind := range []byte("iesk?") {
		var b bytes.Buffer
		writeFrame(&b, kind, []byte(`{"columns":9,"rows":1}`))
		f.Add(b.Bytes())
	}
	f.Add([]byte{'i', 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		for {
			kind, p, err := readFrame(r)
			if err != nil {
				return
			}
			if len(p) > maxFrame {
				t.Fatalf("a frame of %d bytes", len(p))
			}
			var again bytes.Buffer
			if writeFrame(&again, kind, p); !bytes.Contains(b, again.Bytes()) {
				t.Fatalf("%q is not in %q", again.Bytes(), b)
			}
		}
	})
}
