package verify

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// gauge is a machine with memory, of which holders have taken some.
type gauge struct {
	mu    sync.Mutex
	total uint64
	used  map[string]uint64
}

func (g *gauge) Measure() (map[string]uint64, uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	free := g.total
	for _, u := range g.used {
		free -= u
	}
	return maps.Clone(g.used), free
}

func (g *gauge) take(holder string, n uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used[holder] = n
}

func TestRefusalNamesTheResource(t *testing.T) {
	g := &gauge{total: 1000, used: map[string]uint64{}}
	l := NewLedger(Capacity{VCPUs: 4, Holders: 3}, g, 100)
	must := func(holder string, c Claim) {
		t.Helper()
		if err := l.Grant(holder, c); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(c Claim, want Refusal, says string) {
		t.Helper()
		err := l.Grant("new", c)
		r, ok := errors.AsType[*Refusal](err)
		if !ok || *r != want || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %#v (%v), want %+v that says %q", c, r, err, want, says)
		}
	}
	disk, tap := Thing{Kind: "disk", Name: "/a"}, Thing{Kind: "tap", Name: "t0"}
	read := Thing{Kind: "disk", Name: "/b", Shared: true}
	must("a", Claim{VCPUs: 2, Memory: 400, Things: []Thing{disk, read}})
	must("b", Claim{VCPUs: 1, Memory: 300, Things: []Thing{tap, read}})
	refused(Claim{VCPUs: 2}, Refusal{Resource: "vcpus", Wanted: 2, Free: 1, Committed: 3}, "needs 2, 1 are free")
	// What a and b have not touched yet is theirs all the same.
	refused(Claim{Memory: 201}, Refusal{Resource: "memory", Wanted: 201, Free: 200, Committed: 700}, "200 B can be promised")
	g.take("a", 250)
	refused(Claim{Memory: 201}, Refusal{Resource: "memory", Wanted: 201, Free: 200, Committed: 700}, "200 B")
	// Others on the machine take memory that was promised.
	g.take("another", 150)
	refused(Claim{Memory: 51}, Refusal{Resource: "memory", Wanted: 51, Free: 50, Committed: 700}, "50 B")
	g.take("another", 950-250)
	refused(Claim{Memory: 1}, Refusal{Resource: "memory", Wanted: 1, Free: 0, Committed: 700}, "")
	refused(Claim{Things: []Thing{{Kind: "disk", Name: "/a", Shared: true}}}, Refusal{Resource: "disk /a", Wanted: 1, Committed: 1, Holder: "a"}, "disk /a is held by a")
	refused(Claim{Things: []Thing{{Kind: "disk", Name: "/b"}}}, Refusal{Resource: "disk /b", Wanted: 1, Committed: 2, Holder: "a, b"}, "held by a, b")
	if err := l.Grant("a", Claim{}); err == nil {
		t.Error("a holds twice")
	}
	if err := l.Grant("new", Claim{Things: []Thing{tap, tap}}); err == nil {
		t.Error("a thing was granted twice to one")
	}
	if err := l.Grant("new", Claim{VCPUs: -1}); err == nil {
		t.Error("less than no vCPUs were granted")
	}
	must("c", Claim{Things: []Thing{read}})
	refused(Claim{}, Refusal{Resource: "vms", Wanted: 1, Committed: 3}, "vms")
	l.Return("c")
	l.Return("nobody")
	l.Return("b")
	must("d", Claim{VCPUs: 2, Things: []Thing{tap}})
	b := l.Balance()
	if b.Committed != (Capacity{VCPUs: 4, Memory: 400, Holders: 2}) || len(b.Grants) != 2 || b.Grants[0].Holder != "a" || b.Grants[1].Holder != "d" {
		t.Errorf("%+v", b)
	}
}

func TestHugeClaimsDoNotWrap(t *testing.T) {
	l := NewLedger(Capacity{Memory: 100, VCPUs: 1}, nil, 0)
	if err := l.Grant("a", Claim{Memory: 10}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Claim{{Memory: 1<<64 - 1}, {Memory: 1<<64 - 10}, {Memory: 91}, {VCPUs: 1<<63 - 1}} {
		if err := l.Grant("b", c); err == nil {
			t.Errorf("%+v was granted", c)
		}
	}
}

func TestResize(t *testing.T) {
	g := &gauge{total: 1000, used: map[string]uint64{}}
	l := NewLedger(Capacity{Memory: 900}, g, 100)
	for _, name := range []string{"a", "b"} {
		if err := l.Grant(name, Claim{Memory: 300}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		n, want uint64
	}{
		{"a", 500, 500}, {"b", 1 << 63, 400}, {"a", 501, 500}, {"a", 100, 100}, {"b", 1<<64 - 1, 800}, {"a", 101, 100}, {"nobody", 5, 0},
	} {
		if _, got := l.Resize(c.name, 0, c.n); got != c.want {
			t.Errorf("%s to %d: %d, want %d", c.name, c.n, got, c.want)
		}
	}
	g.take("b", 800)
	g.take("another", 100) // of what was to stay free
	if _, got := l.Resize("b", 0, 801); got != 800 {
		t.Errorf("%d while nothing is free", got)
	}
	if b := l.Balance(); b.Committed.Memory != 900 {
		t.Errorf("%+v", b)
	}
}

// random is a claim of a few of eight things.
func random(r *rand.Rand) Claim {
	c := Claim{VCPUs: r.IntN(4), Memory: uint64(r.IntN(300))}
	for i := range 8 {
		if r.IntN(4) == 0 {
			c.Things = append(c.Things, Thing{Kind: "thing", Name: fmt.Sprint(i), Shared: r.IntN(2) == 0})
		}
	}
	return c
}

// reference is the books done plainly: all grants in a list, all looked at each
// time.
type reference struct {
	c    Capacity
	held map[string]Claim
}

func (p *reference) fits(n Claim) bool {
	vcpus, memory := n.VCPUs, n.Memory
	for _, c := range p.held {
		vcpus, memory = vcpus+c.VCPUs, memory+c.Memory
		for _, a := range c.Things {
			for _, b := range n.Things {
				if a.Name == b.Name && !(a.Shared && b.Shared) {
					return false
				}
			}
		}
	}
	return vcpus <= p.c.VCPUs && memory <= p.c.Memory && len(p.held) < p.c.Holders
}

// The ledger agrees with the reference over 100,000 random requests, and what
// holders have touched of their memory changes no answer.
func TestLedgerAgreesWithModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	capacity := Capacity{VCPUs: 8, Memory: 1000, Holders: 6}
	g := &gauge{total: capacity.Memory + 50, used: map[string]uint64{}}
	l, model := NewLedger(capacity, g, 50), &reference{capacity, map[string]Claim{}}
	granted := 0
	for step := range 100_000 {
		name := fmt.Sprint(r.IntN(10))
		held, ok := model.held[name]
		switch {
		case ok && r.IntN(3) == 0:
			n, cpus := uint64(r.IntN(400)), r.IntN(5)
			left := capacity
			for other, c := range model.held {
				if other != name {
					left.Memory, left.VCPUs = left.Memory-c.Memory, left.VCPUs-c.VCPUs
				}
			}
			held.Memory, held.VCPUs = min(n, left.Memory), min(cpus, left.VCPUs)
			if cpus, memory := l.Resize(name, cpus, n); memory != held.Memory || cpus != held.VCPUs {
				t.Fatalf("step %d: resized to %d vCPUs, %d bytes; the model says %+v", step, cpus, memory, held)
			}
			model.held[name] = held
			g.take(name, min(held.Memory, g.used[name]))
		case ok && r.IntN(2) == 0:
			g.take(name, uint64(r.Int64N(int64(held.Memory)+1)))
		case ok:
			g.take(name, 0)
			l.Return(name)
			delete(model.held, name)
		default:
			c := random(r)
			want := model.fits(c)
			if err := l.Grant(name, c); (err == nil) != want {
				t.Fatalf("step %d: %+v with %+v held: %v, the model says %v", step, c, model.held, err, want)
			}
			if want {
				granted++
				model.held[name] = c
			}
		}
		if b := l.Balance(); len(b.Grants) != len(model.held) {
			t.Fatalf("step %d: %d grants, the model has %d", step, len(b.Grants), len(model.held))
		}
	}
	if granted < 1000 {
		t.Errorf("only %d grants: this tried nothing", granted)
	}
	for name := range model.held {
		l.Return(name)
	}
	if len(l.things) != 0 || len(l.held) != 0 {
		t.Errorf("left over: %v, %v", l.held, l.things)
	}
}

// However many ask at once, nothing is ever granted twice: each holder of a thing
// marks it, and finds nobody's mark.
func TestNothingIsGrantedTwice(t *testing.T) {
	l := NewLedger(Capacity{VCPUs: 6, Memory: 1000, Holders: 5}, nil, 0)
	var marks [8]atomic.Int64 // below 0: one owner, above: so many readers
	var vcpus, memory, holders, grants atomic.Int64
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(3, uint64(worker)))
			name := fmt.Sprint(worker)
			for range 2000 {
				c := random(r)
				if l.Grant(name, c) != nil {
					continue
				}
				grants.Add(1)
				if vcpus.Add(int64(c.VCPUs)) > 6 || memory.Add(int64(c.Memory)) > 1000 || holders.Add(1) > 5 {
					t.Error("more was granted than there is")
				}
				for i, thing := range c.Things {
					m := &marks[thing.Name[0]-'0']
					if got := m.Add(map[bool]int64{true: 1, false: -100}[thing.Shared]); thing.Shared && got <= 0 || !thing.Shared && got != -100 {
						t.Errorf("thing %d is held in two ways: %d", i, got)
					}
				}
				for _, thing := range c.Things {
					marks[thing.Name[0]-'0'].Add(map[bool]int64{true: -1, false: 100}[thing.Shared])
				}
				more := c
				more.VCPUs, more.Memory = l.Resize(name, c.VCPUs+r.IntN(4), c.Memory+uint64(r.IntN(300)))
				if vcpus.Add(int64(more.VCPUs-c.VCPUs)) > 6 || memory.Add(int64(more.Memory-c.Memory)) > 1000 {
					t.Error("more was granted on top than there is")
				}
				c = more
				vcpus.Add(-int64(c.VCPUs))
				memory.Add(-int64(c.Memory))
				holders.Add(-1)
				l.Return(name)
			}
		})
	}
	all.Wait()
	if grants.Load() == 0 {
		t.Error("nothing was granted: this tried nothing")
	}
}
