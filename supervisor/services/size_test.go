package services

import (
	"testing"
	"testing/synctest"
	"time"

	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/sizing"
)

const mib = 1 << 20

// elastic is a service of 128 MiB to so many.
func elastic(name string, most uint64) declaration.Service {
	d := runs(name, "sleep 24h")
	d.Memory = declaration.Memory{Start: 128 * mib, Most: declaration.Size(most * mib)}
	return d
}

// needs has the programs of a service use so much from now on.
func (h *fakeHost) need(name string, n need) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.needs[name] = n
}

// size is what a service is let have by its events; the zero Size before the first
// change.
func size(t *testing.T, s *Set, name string) (last sizing.Size, changes int) {
	t.Helper()
	j := s.journal.(*fakeJournal)
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.wrong) != 0 {
		t.Errorf("sizes that are not held: %+v", j.wrong)
	}
	for _, e := range j.sized {
		if e.name == name {
			if changes > 0 && e.by.From != last {
				t.Errorf("from %+v, it was %+v", e.by.From, last)
			}
			last = e.by.To
			changes++
		}
	}
	return last, changes
}

// books checks that a service holds what it has and what it is let have.
func books(t *testing.T, s *Set, name string) uint64 {
	t.Helper()
	v := s.host.(*fakeHost).vmOf(name)
	if v == nil {
		t.Fatalf("%s has no VM", name)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, g := range s.Balance().Grants {
		if g.Holder == name {
			if g.Memory < v.has.Memory || g.Memory < v.asked.Memory || g.VCPUs < v.has.CPUs {
				t.Fatalf("%s has %+v of %+v, and holds %d MiB, %d vCPUs", name, v.has, v.asked, g.Memory/mib, g.VCPUs)
			}
			return g.Memory / mib
		}
	}
	t.Fatalf("%s holds nothing", name)
	return 0
}

// TestElastic has a guest's need grow and shrink, in a machine of 1 GiB.
func TestElastic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		d := elastic("a", 1024)
		d.CPUs, d.CPUsMin = 3, 1
		other := elastic("other", 128)
		other.CPUs = 2
		s := declared(t, h, nil, d, other)
		for _, name := range []string{"a", "other"} {
			if _, err := s.Start(t.Context(), name, "me"); err != nil {
				t.Fatal(err)
			}
		}
		looks := func(n int) {
			for range n {
				time.Sleep(lookEvery)
				synctest.Wait()
				books(t, s, "a")
			}
		}
		expect := func(what string, memory uint64, cpus, changes int) {
			t.Helper()
			if got, n := size(t, s, "a"); got != (sizing.Size{Memory: memory * mib, CPUs: cpus, Weight: 100}) || n != changes {
				t.Errorf("%s: %d MiB and %d CPUs after %d changes", what, got.Memory/mib, got.CPUs, n)
			}
		}
		h.need("a", need{memory: 20 * mib, cpus: 0.5})
		looks(60)
		if _, n := size(t, s, "a"); n != 0 {
			t.Errorf("%d changes without a need", n)
		}
		// A guest that takes its time is not given more for that.
		h.need("a", need{memory: 104 * mib, cpus: 0.5})
		looks(60)
		expect("short", 160, 1, 1)
		// It is answered when it calls, not at the next look.
		h.need("a", need{memory: 120 * mib, cpus: 0.5})
		time.Sleep(lookEvery / 4)
		h.vmOf("a").shortages <- proto.Shortage{Resource: proto.Memory}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		expect("pressed", 200, 1, 2)
		// No more than there is: of four vCPUs the other has two.
		h.need("a", need{memory: 900 * mib, cpus: 3})
		looks(300)
		if got, _ := size(t, s, "a"); got != (sizing.Size{Memory: (1024 - 128) * mib, CPUs: 2, Weight: 100}) {
			t.Errorf("as much as there is: %d MiB, %d CPUs", got.Memory/mib, got.CPUs)
		}
		// All of it comes back, as the guest gives it.
		h.need("a", need{memory: 20 * mib})
		looks(1200)
		if got, _ := size(t, s, "a"); got != (sizing.Size{Memory: 128 * mib, CPUs: 1, Weight: 100}) || books(t, s, "a") != 128 {
			t.Errorf("%+v, and it holds %d MiB", got, books(t, s, "a"))
		}
		s.Close()
		settled(t, s, h)
	})
}
