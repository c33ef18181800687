package services

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/sizing"
	"warder/supervisor/verify"
)

// fakeHost has VMs whose commands are words of a small language:
//
//	sleep 10s   exit 3   ok-after 5s   deaf
type fakeHost struct {
	mu    sync.Mutex
	boots map[string]int
	live  int
	fail  map[string]error // of Boot, by service
	slow  time.Duration    // of Boot
	needs map[string]need
	decls map[string]declaration.Service
	vms   map[string]*fakeVM // the last of each service
}

// need is what the programs in a guest would use.
type need struct {
	memory uint64
	cpus   float64
}

func newFakeHost() *fakeHost {
	return &fakeHost{
		boots: make(map[string]int), fail: make(map[string]error), needs: make(map[string]need),
		decls: make(map[string]declaration.Service), vms: make(map[string]*fakeVM),
	}
}

func (h *fakeHost) declared(name string) declaration.Service {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.decls[name]
}

func (h *fakeHost) Claim(_ context.Context, name string) (verify.Claim, error) {
	d := h.declared(name)
	c := verify.Claim{VCPUs: cmp.Or(d.CPUsMin, d.CPUs, 1), Memory: uint64(d.Memory.Start)}
	for _, disk := range d.Disks {
		if disk == "absent" {
			return c, errors.New("absent: no such disk")
		}
		c.Things = append(c.Things, verify.Thing{Kind: "disk", Name: disk})
	}
	return c, nil
}

func (h *fakeHost) Boot(ctx context.Context, name string, start int, only bool) (VM, error) {
	d := h.declared(name)
	h.mu.Lock()
	if v := h.vms[name]; v != nil && v.start == start {
		h.mu.Unlock()
		return v, nil
	}
	if only {
		h.mu.Unlock()
		return nil, nil
	}
	h.boots[name]++
	err, slow := h.fail[name], h.slow
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
	defer h.mu.Unlock()
	h.live++
	claim := verify.Claim{VCPUs: cmp.Or(d.CPUsMin, d.CPUs, 1), Memory: uint64(d.Memory.Start)}
	least := bounds(d, claim).Min
	v := &fakeVM{
		host: h, decl: d, start: start, booted: time.Now(), done: make(chan struct{}), stop: make(chan struct{}),
		asked: least, has: least, shortages: make(chan proto.Shortage, 1),
	}
	h.vms[name] = v
	return v, nil
}

// vmOf gives the VM of a service, nil if it has none now.
func (h *fakeHost) vmOf(name string) *fakeVM {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.vms[name]
}

func (h *fakeHost) count(name string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.boots[name]
}

type fakeVM struct {
	host   *fakeHost
	decl   declaration.Service
	start  int
	main   *fakeProcess
	booted time.Time
	once   sync.Once
	done   chan struct{} // the machine has ended
	stop   chan struct{} // processes are told to end
	told   sync.Once
	deaf   bool
	mu     sync.Mutex

	asked, has sizing.Size
	cpu        sizing.CPU
	sampled    time.Time
	shortages  chan proto.Shortage
}

func (v *fakeVM) Shortages() <-chan proto.Shortage { return v.shortages }

// pace is how much memory a guest takes or gives from one sample to the next.
const pace = 16 << 20

// Sample has the guest come nearer to what was asked of it.
func (v *fakeVM) Sample(context.Context) (sizing.Sample, error) {
	v.host.mu.Lock()
	need := v.host.needs[v.decl.Name]
	v.host.mu.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.has.Memory < v.asked.Memory {
		v.has.Memory += min(pace, v.asked.Memory-v.has.Memory)
	} else {
		v.has.Memory -= min(pace, v.has.Memory-v.asked.Memory)
	}
	v.has.CPUs = v.asked.CPUs
	now := time.Now()
	past := now.Sub(v.sampled)
	v.sampled = now
	v.cpu.Used += time.Duration(min(need.cpus, float64(v.has.CPUs)) * float64(past))
	if need.cpus > float64(v.has.CPUs) {
		v.cpu.Waited += past
	}
	total := v.has.Memory * 9 / 10
	return sizing.Sample{Time: now, Has: v.has, CPU: v.cpu, Memory: sizing.Memory{Total: total, Available: total - min(total, need.memory)}}, nil
}

func (v *fakeVM) Resize(_ context.Context, from, to sizing.Size) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if from != v.asked {
		return fmt.Errorf("it was asked for %+v, not %+v", v.asked, from)
	}
	v.asked = to
	return nil
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
func (v *fakeVM) Ended() error          { return errors.New("the guest crashed") }

func (v *fakeVM) Stop(ctx context.Context, grace time.Duration) error {
	v.told.Do(func() { close(v.stop) })
	defer v.end()
	v.host.mu.Lock()
	delete(v.host.vms, v.decl.Name)
	v.host.mu.Unlock()
	v.mu.Lock()
	deaf := v.deaf
	v.mu.Unlock()
	if !deaf {
		return nil
	}
	<-ctx.Done()
	return errors.New("it did not switch off in time and was killed")
}

func (v *fakeVM) Run(context.Context) (Process, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.main == nil {
		p, err := v.begin(v.decl.Command)
		if err != nil {
			return nil, err
		}
		v.main = p
		go func() {
			defer close(p.done)
			p.status, p.err = p.run(context.Background())
		}()
	}
	return v.main, nil
}

func (v *fakeVM) Check(ctx context.Context) (proto.Status, string, error) {
	p, err := v.begin(v.decl.Health.Command)
	if err != nil {
		return proto.Status{}, "", err
	}
	status, err := p.run(ctx)
	return status, p.said, err
}

func (v *fakeVM) begin(words []string) (*fakeProcess, error) {
	select {
	case <-v.done:
		return nil, errors.New("gone")
	default:
	}
	if words[0] == "missing" {
		return nil, proto.Errorf(proto.CodeNotFound, "no such program")
	}
	return &fakeProcess{vm: v, words: words, done: make(chan struct{})}, nil
}

type fakeProcess struct {
	vm     *fakeVM
	words  []string
	said   string
	done   chan struct{}
	status proto.Status
	err    error
}

func (p *fakeProcess) Wait(ctx context.Context) (proto.Status, error) {
	select {
	case <-p.done:
		return p.status, p.err
	case <-ctx.Done():
		return proto.Status{}, ctx.Err()
	}
}

func (p *fakeProcess) run(ctx context.Context) (proto.Status, error) {
	argument := func(i int) time.Duration { d, _ := time.ParseDuration(p.words[i+1]); return d }
	for i, w := range p.words {
		switch w {
		case "deaf":
			p.vm.mu.Lock()
			p.vm.deaf = true
			p.vm.mu.Unlock()
		case "ok-after":
			if time.Since(p.vm.booted) < argument(i) {
				p.said = "not yet"
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

// declared makes a set of services, each "name: words of its command".
func declared(t *testing.T, h *fakeHost, journal *fakeJournal, list ...declaration.Service) *Set {
	t.Helper()
	if journal == nil {
		journal = newFakeJournal()
	}
	s := New(h, verify.NewLedger(verify.Capacity{VCPUs: 4, Memory: 1 << 30}, nil, 0), journal)
	for _, d := range list {
		h.decls[d.Name] = d.WithDefaults()
		if err := s.Declare(d, false); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func runs(name, command string) declaration.Service {
	return declaration.Service{Name: name, Command: strings.Fields(command)}
}

// want fails unless a service has been in these states, in order.
func want(t *testing.T, s *Set, name string, list ...string) {
	t.Helper()
	j := s.journal.(*fakeJournal)
	j.mu.Lock()
	defer j.mu.Unlock()
	var got []string
	for _, r := range j.records {
		if r.Status.Name == name {
			got = append(got, string(r.Status.State))
		}
	}
	if !slices.Equal(got, list) {
		t.Errorf("%s: states %q, want %q", name, got, list)
	}
}

// settled fails unless nothing is held and no VM is left.
func settled(t *testing.T, s *Set, h *fakeHost) {
	t.Helper()
	if b := s.Balance(); len(b.Grants) != 0 || b.Committed != (verify.Capacity{}) {
		t.Errorf("still held: %+v", b)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.live != 0 {
		t.Errorf("%d VMs are left", h.live)
	}
}
