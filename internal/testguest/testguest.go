// Package testguest runs both sides of a test over the border of a VM: the test
// binary that holds the host's half is also the guest's init and runs the
// guest's half.
//
//	var memory = testguest.Register("memory", func(g *testguest.Guest) {
//		g.Report("kib", totalKiB())
//	})
//
//	func TestMain(m *testing.M) { testguest.Main(m) }
//
//	func TestMemory(t *testing.T) {
//		r := memory.Start(t, vmm.Config{Memory: 256 << 20})
//		if kib := r.Event("kib"); ...
//		r.Finish()
//	}
//
// What the guest reports comes over the serial port, as lines of JSON among
// whatever the kernel prints. Each guest ends with the event "done"; one that
// ends without it has failed, whatever it reported before.
package testguest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"warder/boot/kernelpkg"
	"warder/internal/testkvm"
	"warder/vmm"
)

// A Half is the guest's half of a test.
type Half struct {
	name string
	run  func(*Guest)
}

var halves = map[string]*Half{}

// Register names the guest's half of a test. It is called while the package's
// variables are initialised, which happens on both sides.
func Register(name string, run func(*Guest)) *Half {
	if halves[name] != nil {
		panic("testguest: two guests named " + name)
	}
	h := &Half{name, run}
	halves[name] = h
	return h
}

// Main is the package's TestMain: on the host it runs the tests, as the init of
// a guest the half that the kernel's command line names.
func Main(m *testing.M) {
	if os.Getpid() != 1 {
		os.Exit(m.Run())
	}
	runGuest()
}

// event is one line from the guest.
type event struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
}

const (
	// mark starts a line that is an event.
	mark = "\x02testguest "
	done = "done"
	fail = "fail"
	// argument is what names the half on the kernel's command line.
	argument = "testguest="
)

// patience is how long a guest may take for its next event: many times what
// the slowest lab needs to boot. One that is at work, but has a small share of a
// busy host, may take as much CPU time.
const patience = 3 * time.Minute

// Run is a guest that runs.
type Run struct {
	*vmm.Machine
	t      *testing.T
	serial *serial
}

// Cmdline is what every guest boots with: silent, as each byte that the kernel
// prints is an exit, and ended by a panic.
const Cmdline = "console=ttyS0 quiet loglevel=1 panic=-1 rodata=off cryptomgr.notests random.trust_cpu=on"

// Start boots a guest that runs h. Kernel, initrd, command line and serial port
// are filled in; Cmdline of cfg is added. The machine is closed with the test.
func (h *Half) Start(t *testing.T, cfg vmm.Config) *Run {
	t.Helper()
	testkvm.Need(t)
	kernel, err := kernelpkg.Default(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Kernel = kernel.KernelPath
	cfg.Initrd = append([][]byte{initrd(t, kernel)}, cfg.Initrd...)
	cfg.Cmdline = strings.Join([]string{Cmdline, argument + h.name, cfg.Cmdline}, " ")
	if cfg.Name == "" {
		cfg.Name = h.name
	}
	s := &serial{events: make(chan event, 64)}
	cfg.Serial.Out = s
	m, err := vmm.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			t.Logf("serial port of %s:\n%s", cfg.Name, s.text())
		}
	})
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	return &Run{Machine: m, t: t, serial: s}
}

// Event waits for the guest's next report, which must be of that name, and
// returns its value.
func (r *Run) Event(name string) json.RawMessage {
	r.t.Helper()
	for w := r.waits(); ; {
		select {
		case e := <-r.serial.events:
			return r.check(e, name)
		case <-time.After(patience):
			if w.over() {
				r.t.Fatalf("no %q from the guest\n%s", name, r.where())
			}
		case <-r.Done():
			// What it said before it ended counts.
			select {
			case e := <-r.serial.events:
				return r.check(e, name)
			default:
				r.t.Fatalf("the guest ended (%v) before %q", r.Wait(), name)
			}
		}
	}
}

// waits is what the guest's vCPUs have worked since somebody waits for it.
type waits struct {
	r          *Run
	begin, now time.Duration
}

func (r *Run) waits() *waits {
	n := r.worked()
	return &waits{r, n, n}
}

// over is asked at the end of each patience.
func (w *waits) over() bool {
	before := w.now
	w.now = w.r.worked()
	const idle = patience / 20 // more than an idle kernel takes
	return w.now-before < idle || w.now-w.begin >= patience
}

// worked is the CPU time that the machine's vCPUs have taken.
func (r *Run) worked() (total time.Duration) {
	for _, t := range r.CPUTime() {
		total += t
	}
	return total
}

func (r *Run) check(e event, name string) json.RawMessage {
	r.t.Helper()
	switch e.Name {
	case name:
	case fail:
		r.t.Fatalf("guest: %s", e.Value)
	default:
		r.t.Fatalf("the guest reported %q (%s), want %q", e.Name, e.Value, name)
	}
	return e.Value
}

// Get waits for the guest's next report, which must be of that name, and
// decodes its value.
func Get[T any](r *Run, name string) (v T) {
	r.t.Helper()
	if err := json.Unmarshal(r.Event(name), &v); err != nil {
		r.t.Fatalf("event %q: %v", name, err)
	}
	return v
}

// End waits for the machine to end.
func (r *Run) End() vmm.Exit {
	r.t.Helper()
	for w := r.waits(); ; {
		select {
		case <-r.Done():
			return r.Wait()
		case <-time.After(patience):
			if w.over() {
				r.t.Fatalf("the machine does not end\n%s", r.where())
			}
		}
	}
}

// where tells what the machine's vCPUs are at, twice, so that it shows whether they get
// anywhere.
func (r *Run) where() string {
	var b strings.Builder
	for range 2 {
		for id := range r.CPUs() {
			err := r.On(id, func(v *vmm.VCPU) error {
				fmt.Fprintln(&b, v.Report())
				return nil
			})
			if err != nil {
				return err.Error()
			}
		}
		fmt.Fprintf(&b, "%+v\n", r.Stats())
		time.Sleep(time.Second)
	}
	return b.String()
}

// Finish waits for the guest's "done" and for its machine to be switched off.
func (r *Run) Finish() {
	r.t.Helper()
	r.Event(done)
	if e := r.End(); e.Reason != vmm.PowerOff {
		r.t.Fatalf("the machine ended by %v, want power off\n%v", e, e.Report)
	}
}

// serial takes a guest's serial output apart into events and text.
type serial struct {
	mu     sync.Mutex
	line   []byte
	all    bytes.Buffer
	events chan event
}

func (s *serial) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range p {
		if b != '\n' {
			s.line = append(s.line, b)
			continue
		}
		s.take(bytes.TrimRight(s.line, "\r"))
		s.line = s.line[:0]
	}
	return len(p), nil
}

func (s *serial) take(line []byte) {
	// The kernel may have been in the middle of a line.
	before, text, found := bytes.Cut(line, []byte(mark))
	s.all.Write(before)
	if !found {
		s.all.WriteByte('\n')
		return
	}
	var e event
	if err := json.Unmarshal(text, &e); err != nil {
		fmt.Fprintf(&s.all, "%s\n(not an event: %v)\n", text, err)
		return
	}
	s.events <- e
}

func (s *serial) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String() + string(s.line)
}

// initrd is this test binary as init, with the modules that guests need.
func initrd(t *testing.T, kernel *kernelpkg.Package) []byte {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	records := []cpio.Record{
		cpio.StaticFile("init", string(self), 0o755),
		cpio.Directory("modules", 0o755),
	}
	for i, m := range kernel.Select(kernelpkg.Guest...) {
		ko, err := os.ReadFile(m.Path)
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, cpio.StaticFile(fmt.Sprintf("modules/%03d-%s.ko", i, m.Name), string(ko), 0o644))
	}
	return Archive(t, records)
}

// Archive is an initramfs of these files.
func Archive(t *testing.T, records []cpio.Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w := cpio.Newc.Writer(&b)
	if err := cpio.WriteRecords(w, records); err != nil {
		t.Fatal(err)
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
