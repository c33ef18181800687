package hosting

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/supervisor/decision"
	"warder/supervisor/declaration"
	"warder/supervisor/sizing"
	"warder/supervisor/verify"
)

// fakeHost has VMs whose commands are words of a small language:
//
//	sleep 10s   exit 3   say TEXT   ok-after 5s   deaf
type fakeHost struct {
	mu    sync.Mutex
	boots map[string]int
	live  int
	fail  map[string]error // of Boot, by service
	slow  time.Duration    // of Boot
	// joined are the services that have what they have by Join, full that no more may.
	joined map[string]declaration.Service
	full   atomic.Bool
}

func newFakeHost() *fakeHost {
	return &fakeHost{boots: make(map[string]int), fail: make(map[string]error), joined: make(map[string]declaration.Service)}
}

// addressOf is that of a service.
func addressOf(name string) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, name[len(name)-1]}) }

func (h *fakeHost) Join(d declaration.Service, keep func([]netip.Addr) error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.full.Load() {
		return errors.New("no address is free")
	}
	if err := keep([]netip.Addr{addressOf(d.Name)}); err != nil {
		return err
	}
	h.joined[d.Name] = d
	return nil
}

func (h *fakeHost) Leave(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.joined, name)
}

// has are the words of the command of what is joined.
func (h *fakeHost) has(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.joined[name].Command, " ")
}

func (h *fakeHost) Claim(d declaration.Service) (verify.Claim, error) {
	c := verify.Claim{VCPUs: max(d.CPUs, 1), Memory: uint64(d.Memory.Start)}
	for _, disk := range d.Disks {
		if disk == "absent" {
			return c, errors.New("absent: no such disk")
		}
		c.Things = append(c.Things, verify.Thing{Kind: "disk", Name: disk})
	}
	return c, nil
}

func (h *fakeHost) Boot(ctx context.Context, d declaration.Service) (VM, error) {
	h.mu.Lock()
	h.boots[d.Name]++
	err, slow := h.fail[d.Name], h.slow
	h.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.live++
	h.mu.Unlock()
	return &fakeVM{host: h, booted: time.Now(), done: make(chan struct{}), stop: make(chan struct{})}, nil
}

func (h *fakeHost) Measure() (map[string]uint64, uint64) { return nil, 1 << 40 }

func (h *fakeHost) count(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.boots[name]
}

type fakeVM struct {
	host   *fakeHost
	booted time.Time
	once   sync.Once
	done   chan struct{} // the machine has ended
	stop   chan struct{} // processes are told to end
	told   sync.Once
	deaf   bool
	mu     sync.Mutex
}

func (v *fakeVM) end() {
	v.once.Do(func() {
		v.host.mu.Lock()
		v.host.live--
		v.host.mu.Unlock()
		close(v.done)
	})
}

func (v *fakeVM) Done() <-chan struct{} { return v.done }

func (v *fakeVM) Shortages() <-chan proto.Shortage { return nil }
func (v *fakeVM) Sample(context.Context) (sizing.Sample, error) {
	return sizing.Sample{}, errors.New("nothing is known of it")
}
func (v *fakeVM) Resize(context.Context, sizing.Size, sizing.Size) error { return nil }

func (v *fakeVM) Use(ctx context.Context) Use {
	use := Use{VCPUs: 1, CPUTime: time.Since(v.booted)}
	v.mu.Lock()
	deaf := v.deaf
	v.mu.Unlock()
	if !deaf {
		use.Guest = &GuestUse{Processes: 7}
		return use
	}
	<-ctx.Done() // as one whose guest does not answer
	return use
}

func (v *fakeVM) Serial() []byte { return []byte("booted\n") }
func (v *fakeVM) Ended() error   { return errors.New("the guest crashed") }

func (v *fakeVM) Stop(ctx context.Context, grace time.Duration) error {
	v.told.Do(func() { close(v.stop) })
	defer v.end()
	v.mu.Lock()
	deaf := v.deaf
	v.mu.Unlock()
	if !deaf {
		return nil
	}
	<-ctx.Done()
	return errors.New("it did not switch off in time and was killed")
}

func (v *fakeVM) Start(_ context.Context, cmd proto.Command, stdio control.Stdio) (Process, error) {
	select {
	case <-v.done:
		return nil, errors.New("gone")
	default:
	}
	if cmd.Args[0] == "missing" {
		return nil, proto.Errorf(proto.CodeNotFound, "no such program")
	}
	return &fakeProcess{vm: v, words: cmd.Args, stdio: stdio, signal: make(chan int, 8)}, nil
}

type fakeProcess struct {
	vm     *fakeVM
	words  []string
	stdio  control.Stdio
	signal chan int
}

func (p *fakeProcess) Signal(_ context.Context, n int) error             { p.signal <- n; return nil }
func (p *fakeProcess) Resize(_ context.Context, cols, rows uint16) error { return nil }

func (p *fakeProcess) Wait(ctx context.Context) (proto.Status, error) {
	argument := func(i int) time.Duration { d, _ := time.ParseDuration(p.words[i+1]); return d }
	for i, w := range p.words {
		switch w {
		case "say":
			fmt.Fprintln(p.stdio.Out, p.words[i+1])
		case "cat":
			copied := make(chan struct{})
			go func() {
				defer close(copied)
				io.Copy(p.stdio.Out, p.stdio.In)
			}()
			select {
			case <-copied:
			case <-p.vm.stop:
			case <-p.vm.done:
			}
		case "deaf":
			p.vm.mu.Lock()
			p.vm.deaf = true
			p.vm.mu.Unlock()
		case "ok-after":
			if time.Since(p.vm.booted) < argument(i) {
				io.WriteString(p.stdio.Err, "not yet\x1b")
				return proto.Status{Code: 1}, nil
			}
		case "ok-until":
			if time.Since(p.vm.booted) >= argument(i) {
				return proto.Status{Code: 1}, nil
			}
		case "crash":
			p.vm.end()
		case "sleep":
			select {
			case <-time.After(argument(i)):
			case <-p.vm.stop:
				return proto.Status{Signal: 15}, nil
			case n := <-p.signal:
				return proto.Status{Signal: n}, nil
			case <-p.vm.done:
				select {
				case <-p.vm.stop: // it was told first
					return proto.Status{Signal: 15}, nil
				default:
				}
				return proto.Status{}, errors.New("gone")
			case <-ctx.Done():
				return proto.Status{}, ctx.Err()
			}
		case "exit":
			var code int
			fmt.Sscan(p.words[i+1], &code)
			return proto.Status{Code: code}, nil
		}
	}
	return proto.Status{}, nil
}

// supervised is a host with a supervisor at the other end of a pipe.
type supervised struct {
	*Host
	t       *testing.T
	fake    *fakeHost
	journal *fakeJournal
	conn    net.Conn // to the supervisor that there is
	ended   chan struct{}
}

// supervise makes a host of services and connects a supervisor.
func supervise(t *testing.T, h *fakeHost, list ...declaration.Service) *supervised {
	t.Helper()
	j := &fakeJournal{running: make(map[string]string), declared: make(map[string][]netip.Addr)}
	s := &supervised{Host: New(h, j, Config{Capacity: verify.Capacity{VCPUs: 4, Memory: 1 << 30}}), t: t, fake: h, journal: j}
	for _, d := range list {
		if err := s.Declare(d); err != nil {
			t.Fatal(err)
		}
	}
	s.connect()
	return s
}

// connect has a new supervisor take over.
func (s *supervised) connect() {
	s.t.Helper()
	here, there := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		decision.Serve(context.Background(), there)
	}()
	if _, err := s.Connect(context.Background(), here); err != nil {
		s.t.Fatal(err)
	}
	s.conn, s.ended = here, ended
}

// kill ends the supervisor.
func (s *supervised) kill() {
	s.conn.Close()
	<-s.ended
}

// over ends it all, and fails unless nothing is held and no VM is left.
func (s *supervised) over() {
	s.t.Helper()
	if b, err := s.Balance(s.t.Context()); err != nil || len(b.Grants) != 0 || b.Committed != (verify.Capacity{}) {
		s.t.Errorf("still held: %+v, %v", b, err)
	}
	if b := s.most.Balance(); len(b.Grants) != 0 {
		s.t.Errorf("still held on the host: %+v", b)
	}
	s.end()
}

func (s *supervised) end() {
	s.t.Helper()
	if err := s.Close(s.t.Context()); err != nil {
		s.t.Error(err)
	}
	s.kill()
	s.served.Wait()
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	if s.fake.live != 0 {
		s.t.Errorf("%d VMs are left", s.fake.live)
	}
	// What was added, and that alone, has what it is to have, and is in the journal.
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	added := 0
	for name, known := range s.services {
		if !known.added {
			continue
		}
		added++
		if s.fake.joined[name].Name != name || s.journal.declared[name] == nil {
			s.t.Errorf("%s was added: joined %+v, in the journal %v", name, s.fake.joined[name], s.journal.declared[name])
		}
	}
	if added != len(s.fake.joined) || added != len(s.journal.declared) {
		s.t.Errorf("%d services were added, %d have joined, %d are in the journal", added, len(s.fake.joined), len(s.journal.declared))
	}
}

// fakeJournal counts what is started and not ended.
type fakeJournal struct {
	mu       sync.Mutex
	declared map[string][]netip.Addr
	writes   int // of declarations
	running  map[string]string
	full     atomic.Bool
}

func (j *fakeJournal) Declared(d declaration.Service, has []netip.Addr) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.full.Load() {
		return errors.New("no space left on device")
	}
	j.declared[d.Name] = has
	j.writes++
	return nil
}

func (j *fakeJournal) Removed(name string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.declared, name)
	return nil
}

func (j *fakeJournal) Started(name, by string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.full.Load() {
		return errors.New("no space left on device")
	}
	j.running[name] = by
	return nil
}

func (j *fakeJournal) Ended(name string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.running, name)
	return nil
}

func runs(name, command string) declaration.Service {
	return declaration.Service{Name: name, Command: strings.Fields(command)}
}

// states are those that a service has been in, in order.
func (s *supervised) states(name string) (list []string) {
	s.t.Helper()
	if err := s.Events(s.t.Context(), name, false, func(e Event) error { list = append(list, string(e.State)); return nil }); err != nil {
		s.t.Fatal(err)
	}
	return list
}
