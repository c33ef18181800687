package services

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"warder/supervisor/declaration"
	"warder/supervisor/verify"
)

// model is what must hold of a set between two requests, said plainly.
type model struct {
	t    *testing.T
	s    *Set
	h    *fakeHost
	j    *fakeJournal
	most uint64 // bytes that were held at a time
}

// check compares the states of services, the books, the journal and the VMs that
// there are.
func (m *model) check(step string) {
	m.t.Helper()
	synctest.Wait()
	var active []string
	vcpus := 0
	disks := make(map[string]string)
	if got := waiting(m.s); slices.ContainsFunc(got, func(w string) bool { return strings.HasSuffix(w, verify.ToStart) }) {
		m.t.Fatalf("%s: nobody asks, and there wait %q", step, got)
	}
	for _, st := range m.s.List() {
		if !st.State.Active() {
			continue
		}
		active = append(active, st.Name)
		vcpus += st.Service.CPUs
		for _, d := range st.Service.Disks {
			if other := disks[d]; other != "" {
				m.t.Fatalf("%s: %s and %s have disk %s", step, other, st.Name, d)
			}
			disks[d] = st.Name
		}
	}
	if vcpus > 4 {
		m.t.Fatalf("%s: %d vCPUs of 4 are held", step, vcpus)
	}
	var held []string
	b := m.s.Balance()
	for _, g := range b.Grants {
		held = append(held, g.Holder)
	}
	if !slices.Equal(active, held) || b.Committed.VCPUs != vcpus {
		m.t.Fatalf("%s: active are %q, and %q hold %d vCPUs", step, active, held, b.Committed.VCPUs)
	}
	if m.most = max(m.most, b.Committed.Memory); m.most > 1<<30 {
		m.t.Fatalf("%s: %d bytes are held", step, b.Committed.Memory)
	}
	for _, g := range b.Grants {
		v := m.h.vmOf(g.Holder)
		if v == nil {
			continue // it has none now
		}
		v.mu.Lock()
		if g.Memory < v.has.Memory || g.Memory < v.asked.Memory {
			m.t.Fatalf("%s: %s has %d bytes of %d, and holds %d", step, g.Holder, v.has.Memory, v.asked.Memory, g.Memory)
		}
		v.mu.Unlock()
	}
	m.j.mu.Lock()
	written := slices.Sorted(maps.Keys(m.j.running))
	m.j.mu.Unlock()
	if !slices.Equal(active, written) {
		m.t.Fatalf("%s: active are %q, the journal has %q", step, active, written)
	}
	m.h.mu.Lock()
	defer m.h.mu.Unlock()
	if m.h.live > len(active) || m.h.live < 0 {
		m.t.Fatalf("%s: %d VMs of %d services", step, m.h.live, len(active))
	}
}

// fits is whether a service could be granted what it needs now.
func (m *model) fits(name string) bool {
	var want declaration.Service
	vcpus, taken := 0, make(map[string]bool)
	for _, st := range m.s.List() {
		if st.Name == name {
			want = st.Service
		} else if st.State.Active() {
			vcpus += st.Service.CPUs
			for _, d := range st.Service.Disks {
				taken[d] = true
			}
		}
	}
	return vcpus+want.CPUs <= 4 && !slices.ContainsFunc(want.Disks, func(d string) bool { return taken[d] })
}

// TestModel does 100,000 things to a set, a third of which are faults: VMs that do
// not come up, that crash, a journal that is full, a host that is not there for a
// while. After each the set is what a plain look says, and each request has had the
// one outcome that it had to have.
func TestModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(11, 12))
		h, j := newFakeHost(), newFakeJournal()
		commands := []string{"sleep 1h", "sleep 7s", "sleep 3s exit 1", "exit 0", "sleep 2s crash sleep 1h", "missing"}
		var list []declaration.Service
		for i := range 8 {
			d := runs(fmt.Sprint("s", i), commands[i%len(commands)])
			d.CPUs, d.Disks = 1+i%3, []string{fmt.Sprint("disk", i%4)}
			if i%2 == 0 {
				d.Restart = declaration.Restart{Policy: []string{declaration.RestartAlways, declaration.RestartOnFailure}[i/2%2], Limit: i}
			}
			if i < 2 {
				d.OnDemand = &declaration.OnDemand{Idle: declaration.Duration(5 * time.Second)}
			}
			if i%3 == 0 {
				d.Health = &declaration.Health{Command: []string{"ok-after", "2s"}}
			}
			list = append(list, d)
		}
		for _, name := range []string{"s8", "s9"} { // which want more together than there is
			list = append(list, elastic(name, 640))
		}
		m := &model{t, declared(t, h, j, list...), h, j, 0}
		outcomes, number := make(map[string]int), uint64(0)
		steps := 100_000
		if testing.Short() {
			steps = 20_000
		}
		for step := range steps {
			name := fmt.Sprint("s", r.IntN(10))
			st, err := m.s.Status(name)
			if err != nil {
				t.Fatal(err)
			}
			var did string
			switch n := r.IntN(15); {
			case n < 4:
				did = "start"
				fits, full := m.fits(name), j.full
				ctx, cancel := timeout(t, time.Duration(r.IntN(20))*time.Second)
				_, err := m.s.Start(ctx, name, "me")
				cancel()
				_, refused := errors.AsType[*verify.Refusal](err)
				switch {
				case st.State.Active():
					did += " again"
					if !errors.Is(err, ErrState) {
						t.Fatalf("step %d: %s was %s: %v", step, name, st.State, err)
					}
				case !fits:
					did += " refused"
					if !refused {
						t.Fatalf("step %d: %s does not fit: %v", step, name, err)
					}
				case full:
					did += " unwritten"
					if err == nil || refused {
						t.Fatalf("step %d: started without a record: %v", step, err)
					}
				case refused || errors.Is(err, ErrState):
					t.Fatalf("step %d: %s fits, and was refused: %v", step, name, err)
				}
			case n < 6:
				did = "stop"
				st, err := m.s.Stop(t.Context(), name, time.Second, "me")
				if err != nil || st.State.Active() {
					t.Fatalf("step %d: %s: %+v, %v", step, name, st, err)
				}
			case n < 8:
				did = "time"
				time.Sleep(time.Duration(r.IntN(9000)) * time.Millisecond)
			case n == 8:
				did = "no boots"
				h.mu.Lock()
				if h.fail[name] == nil {
					h.fail[name] = errors.New("no kernel")
				} else {
					delete(h.fail, name)
				}
				h.mu.Unlock()
			case n == 9:
				did = "slow boots"
				h.mu.Lock()
				h.slow = time.Duration(r.IntN(3)) * time.Second
				h.mu.Unlock()
			case n == 10:
				did = "journal"
				j.mu.Lock()
				j.full = !j.full && r.IntN(3) == 0
				j.mu.Unlock()
			case n == 11:
				did = "need"
				h.need("s8", need{memory: uint64(r.IntN(700)) * mib})
				h.need("s9", need{memory: uint64(r.IntN(700)) * mib})
			case n < 14:
				did = "connect"
				if r.IntN(10) > 0 { // one that is started by it, mostly
					if st, err = m.s.Status(fmt.Sprint("s", r.IntN(2))); err != nil {
						t.Fatal(err)
					}
					name = st.Name
				}
				fits, full := m.fits(name), j.full
				ctx, cancel := timeout(t, time.Minute)
				number++
				got, err := m.s.Demand(ctx, name, []string{"", "b"}[r.IntN(2)], number, false, time.Duration(r.IntN(20))*time.Second)
				cancel()
				r, refused := errors.AsType[*verify.Refusal](err)
				switch {
				case st.Service.OnDemand == nil:
					did += " elsewhere"
					if !errors.Is(err, ErrState) {
						t.Fatalf("step %d: %s is not started on demand: %v", step, name, err)
					}
				case err == nil && got.State != Running, refused && fits && !st.State.Active(), refused && !r.Amount() && fits:
					t.Fatalf("step %d: %s was %+v, fits: %v: %+v, %v", step, name, st, fits, got, err)
				case err == nil && st.State.Active():
					did += " to what runs"
				case err == nil && full:
					t.Fatalf("step %d: started without a record", step)
				case err == nil && !fits:
					did += " and wait"
				case err != nil:
					did += " in vain"
				}
				if number++; err != nil || step%2 == 0 {
					if err := m.s.Release(name, number); err != nil {
						t.Fatal(err)
					}
				}
			default:
				did = "add, remove"
				if err := m.s.Add(t.Context(), runs("extra", "exit 0")); err != nil && !errors.Is(err, ErrState) {
					t.Fatal(err)
				}
				if err := remove(t, m.s, "extra"); err != nil && !errors.Is(err, ErrState) {
					t.Fatal(err)
				}
			}
			outcomes[did]++
			m.check(fmt.Sprintf("step %d, %s %s", step, did, name))
		}
		t.Log(outcomes)
		for _, did := range []string{"start", "start again", "start refused", "start unwritten", "stop", "time", "need", "connect", "connect elsewhere", "connect to what runs", "connect in vain", "connect and wait"} {
			if outcomes[did] < steps/1000 {
				t.Errorf("%q happened %d times: this tried little", did, outcomes[did])
			}
		}
		if m.most < 900*mib {
			t.Errorf("no more than %d MiB were held at a time: nobody was short", m.most/mib)
		}
		m.s.Close()
		settled(t, m.s, h)
	})
}

func timeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(t.Context(), d)
}
