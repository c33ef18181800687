package hosting

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/supervisor/declaration"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// want fails unless a service has been in these states, in order.
func (s *supervised) want(name string, list ...string) {
	s.t.Helper()
	if got := s.states(name); !slices.Equal(got, list) {
		s.t.Errorf("%s: states %q, want %q", name, got, list)
	}
}

// What is asked here is answered there, with errors that are what they were.
func TestRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		secret := runs("web", "say hello sleep 1h")
		secret.Env = map[string]string{"KEY": "secret"}
		wide := runs("wide", "exit 0")
		wide.CPUs = 5
		s := supervise(t, h, secret, wide, runs("missing", "missing"))
		ctx := t.Context()
		if st, err := s.Start(ctx, "web", "me"); err != nil || st.State != services.Running || st.By != "me" || st.Service.Env["KEY"] != "secret" || len(st.Service.Command) != 4 {
			t.Errorf("%+v, %v", st, err)
		}
		if _, err := s.Start(ctx, "web", "me"); !errors.Is(err, services.ErrState) || !strings.Contains(err.Error(), "web is running already") {
			t.Errorf("twice: %v", err)
		}
		_, err := s.Start(ctx, "wide", "me")
		if r, ok := errors.AsType[*verify.Refusal](err); !ok || *r != (verify.Refusal{Resource: "vcpus", Wanted: 5, Free: 3, Committed: 1}) {
			t.Errorf("refused: %v", err)
		}
		if _, err := s.Start(ctx, "nobody", "me"); !errors.Is(err, services.ErrUnknown) {
			t.Errorf("unknown: %v", err)
		}
		if _, err := s.Start(ctx, "missing", "me"); err != nil {
			t.Error(err)
		}
		if st, err := s.Wait(ctx, "missing"); err != nil || st.State != services.Failed || !strings.Contains(st.Why, "no such program") {
			t.Errorf("%+v, %v", st, err)
		}
		absent := runs("extra", "exit 0")
		absent.Disks = []string{"absent"}
		if _, err := s.Add(ctx, absent); err == nil || !strings.Contains(err.Error(), "no such disk") {
			t.Errorf("added: %v", err)
		}
		if st, err := s.Add(ctx, runs("extra", "exit 0")); err != nil || st.State != services.Stopped || len(s.journal.declared["extra"]) != 1 || h.has("extra") == "" {
			t.Errorf("%+v, %v", st, err)
		}
		if _, err := s.Add(ctx, runs("web", "exit 0")); !errors.Is(err, services.ErrState) {
			t.Errorf("anew: %v", err)
		}
		if all, err := s.List(ctx); err != nil || len(all) != 4 || all[0].Name != "extra" || all[0].Service.Command[0] != "exit" {
			t.Errorf("%+v, %v", all, err)
		}
		if st, err := s.Remove(ctx, "extra"); err != nil || st.Name != "extra" || s.journal.declared["extra"] != nil || h.has("extra") != "" {
			t.Errorf("%+v, %v", st, err)
		}
		if _, err := s.Remove(ctx, "web"); !errors.Is(err, services.ErrState) {
			t.Errorf("removed: %v", err)
		}
		joins(t, s)
		if err := s.Grant(ctx, "vm", verify.Claim{VCPUs: 4}); err == nil {
			t.Error("more was granted than there is")
		}
		if err := s.Grant(ctx, "vm", verify.Claim{VCPUs: 3}); err != nil {
			t.Error(err)
		}
		s.kill()
		s.connect()
		if b, err := s.Balance(ctx); err != nil || b.Committed.VCPUs != 4 || len(b.Grants) != 2 {
			t.Errorf("%+v, %v", b, err)
		}
		if err := s.Return(ctx, "vm"); err != nil {
			t.Error(err)
		}
		if st, err := s.Stop(ctx, "web", time.Second, "me"); err != nil || st.State != services.Stopped || st.Why != "stopped by me" || st.Exit.Signal != 15 {
			t.Errorf("%+v, %v", st, err)
		}
		s.want("web", "starting", "running", "stopping", "stopped")
		waiting, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := s.Wait(waiting, "web"); err != nil {
			t.Error(err)
		}
		s.over()
		if _, err := s.Start(ctx, "web", "me"); !errors.Is(err, services.ErrClosed) {
			t.Errorf("started by a host that is closed: %v", err)
		}
	})
}

func TestPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t, newFakeHost(), runs("a", "exit 0"))
		if err := s.Permit(t.Context(), verify.Principal{Name: "ann"}, "start", "a"); err == nil {
			t.Error("permitted without policies")
		}
		s.kill()
		s.cfg.PolicyFile, s.cfg.Policies = "p.cedar", `permit (principal == User::"ann", action == Action::"start", resource) when { resource.cpus == 1 };`
		s.connect()
		if err := s.Permit(t.Context(), verify.Principal{Name: "ann"}, "start", "a"); err != nil {
			t.Error(err)
		}
		err := s.Permit(t.Context(), verify.Principal{Name: "bob"}, "start", "a")
		if d, ok := errors.AsType[*verify.Denial](err); !ok || err.Error() != "bob may not do this with a: start (no policy permits it)" {
			t.Errorf("%v, %v", err, d)
		}
		s.end()
	})
}

func TestExec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t, newFakeHost(), runs("a", "sleep 1h"))
		cmd := proto.Command{Args: []string{"cat"}}
		if _, err := s.Exec(t.Context(), "a", cmd, control.Stdio{}); !errors.Is(err, services.ErrState) {
			t.Errorf("in a service that does not run: %v", err)
		}
		if _, err := s.Exec(t.Context(), "b", cmd, control.Stdio{}); !errors.Is(err, services.ErrUnknown) {
			t.Errorf("in none: %v", err)
		}
		if _, err := s.Start(t.Context(), "a", ""); err != nil {
			t.Fatal(err)
		}
		s.kill() // nobody is needed for this
		if said, err := s.Console("a"); err != nil || string(said) != "booted\n" {
			t.Errorf("%q, %v", said, err)
		}
		if _, err := s.Console("b"); !errors.Is(err, services.ErrUnknown) {
			t.Errorf("of none: %v", err)
		}
		var out strings.Builder
		p, err := s.Exec(t.Context(), "a", cmd, control.Stdio{In: strings.NewReader("hello"), Out: &out})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(t.Context()); err != nil || out.String() != "hello" {
			t.Errorf("%q, %v", out.String(), err)
		}
		s.connect()
		s.end()
	})
}

// A supervisor dies in each state of a service, and the next one goes on from there.
func TestSuccession(t *testing.T) {
	again := runs("a", "sleep 10s exit 1")
	again.Restart = declaration.Restart{Policy: declaration.RestartOnFailure, Delay: declaration.Duration(10 * time.Second), Limit: 2}
	deaf := runs("a", "deaf sleep 1h")
	deaf.StopTimeout = declaration.Duration(10 * time.Second)
	well := runs("a", "sleep 1h")
	well.Health = &declaration.Health{Command: []string{"ok-after", "20s"}, Interval: declaration.Duration(5 * time.Second), StartPeriod: declaration.Duration(time.Minute)}
	for name, tt := range map[string]struct {
		d      declaration.Service
		kill   time.Duration // after the start
		away   time.Duration // until there is another
		stop   time.Duration // after the start, 0 for never
		boots  int
		states string
		state  services.State
		why    string
	}{
		"booting":        {runs("a", "sleep 20s"), 2 * time.Second, time.Second, 0, 1, "starting running stopping ended", services.Ended, "status 0"},
		"booted":         {runs("a", "sleep 20s"), 2 * time.Second, 10 * time.Second, 0, 1, "starting running stopping ended", services.Ended, "status 0"},
		"running":        {runs("a", "sleep 20s"), 10 * time.Second, time.Second, 0, 1, "starting running stopping ended", services.Ended, "status 0"},
		"ended":          {runs("a", "sleep 10s exit 3"), 10 * time.Second, time.Minute, 0, 1, "starting running stopping failed", services.Failed, "status 3"},
		"crashed":        {runs("a", "sleep 10s crash sleep 1h"), 10 * time.Second, time.Minute, 0, 1, "starting running stopping failed", services.Failed, ""},
		"waiting":        {again, 20 * time.Second, time.Second, 0, 3, "starting running stopping waiting starting running stopping waiting starting running stopping failed", services.Failed, "given up after 2 new starts"},
		"waiting beyond": {again, 20 * time.Second, time.Hour, 0, 3, "starting running stopping waiting starting running stopping waiting starting running stopping failed", services.Failed, "given up after 2 new starts"},
		"getting well":   {well, 10 * time.Second, time.Second, 40 * time.Second, 1, "starting running stopping stopped", services.Stopped, "stopped by me"},
		"well":           {well, 30 * time.Second, time.Second, 40 * time.Second, 1, "starting running stopping stopped", services.Stopped, "stopped by me"},
		"stopping":       {deaf, 20 * time.Second, time.Second, 18 * time.Second, 1, "starting running stopping stopped", services.Stopped, "killed"},
		"stopped":        {runs("a", "sleep 1h"), 20 * time.Second, time.Second, 20 * time.Second, 1, "starting running stopping stopped", services.Stopped, "stopped by me"},
		"told meanwhile": {runs("a", "sleep 1h"), 20 * time.Second, time.Second, 20500 * time.Millisecond, 1, "starting running stopping stopped", services.Stopped, "stopped by me"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newFakeHost()
				h.slow = 5 * time.Second
				s := supervise(t, h, tt.d)
				began := time.Now()
				var asked sync.WaitGroup
				asked.Go(func() {
					if st, err := s.Start(t.Context(), "a", "me"); err != nil || st.By != "me" {
						t.Errorf("start: %+v, %v", st, err)
					}
				})
				if tt.stop != 0 {
					asked.Go(func() {
						time.Sleep(tt.stop)
						if st, err := s.Stop(t.Context(), "a", 0, "me"); err != nil || st.State != services.Stopped {
							t.Errorf("stop: %+v, %v", st, err)
						}
					})
				}
				time.Sleep(tt.kill)
				s.kill()
				time.Sleep(tt.away)
				s.connect()
				asked.Wait()
				st, err := s.Wait(t.Context(), "a")
				if err != nil || st.State != tt.state || !strings.Contains(st.Why, tt.why) || st.Starts != tt.boots {
					t.Errorf("after %v: %+v, %v", time.Since(began), st, err)
				}
				if h.count("a") != tt.boots {
					t.Errorf("it had %d VMs, want %d", h.count("a"), tt.boots)
				}
				s.want("a", strings.Fields(tt.states)...)
				if len(s.journal.running) != 0 {
					t.Errorf("the journal has %v", s.journal.running)
				}
				s.over()
			})
		})
	}
}

// Supervisors die at any moment while clients ask for whatever comes to their minds.
// Each request has one outcome, each VM is of a service that is active, and at the
// end nothing is held.
func TestManyDie(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 8
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			h := newFakeHost()
			h.slow = time.Second
			var list []declaration.Service
			for i := range 6 {
				d := runs(fmt.Sprint("s", i), []string{"sleep 1h", "sleep 20s", "sleep 3s exit 1"}[i%3])
				d.Disks = []string{fmt.Sprint("disk", i%4)}
				if i%2 == 0 {
					d.Restart = declaration.Restart{Policy: declaration.RestartAlways, Limit: 3}
				}
				list = append(list, d)
			}
			s := supervise(t, h, list...)
			var all sync.WaitGroup
			started := make([]int, 6)
			var mu sync.Mutex
			for client := range 6 {
				all.Go(func() {
					r := rand.New(rand.NewPCG(seed, uint64(client)+2))
					for range 20 {
						i := r.IntN(6)
						name := fmt.Sprint("s", i)
						var err error
						switch r.IntN(4) {
						case 0:
							_, err = s.Stop(t.Context(), name, time.Second, "me")
						case 1:
							extra := fmt.Sprint("extra", r.IntN(2))
							if _, err = s.Add(t.Context(), runs(extra, "exit 0")); err == nil && r.IntN(2) == 0 {
								_, err = s.Remove(t.Context(), extra)
							}
							if errors.Is(err, services.ErrUnknown) {
								err = nil // another client was faster
							}
						default:
							if _, err = s.Start(t.Context(), name, "me"); err == nil {
								mu.Lock()
								started[i]++
								mu.Unlock()
							}
						}
						if _, ok := errors.AsType[*verify.Refusal](err); err != nil && !ok && !errors.Is(err, services.ErrState) {
							t.Errorf("%s: %v", name, err)
						}
						time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
					}
				})
			}
			over := make(chan struct{})
			go func() {
				all.Wait()
				close(over)
			}()
			deaths := 0
			for done := false; !done; deaths++ {
				select {
				case <-over:
					done = true
				case <-time.After(time.Duration(r.IntN(7000)) * time.Millisecond):
				}
				s.kill()
				time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
				s.connect()
				h.mu.Lock()
				live := h.live
				h.mu.Unlock()
				active := 0
				list, err := s.List(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, st := range list {
					if st.State.Active() {
						active++
					}
				}
				if b := len(s.most.Balance().Grants); live > 6 || b > 6 {
					t.Errorf("seed %d: %d VMs and %d grants of %d active services", seed, live, b, active)
				}
			}
			// Each start that was granted is one in the events, and no more.
			for i := range started {
				n := 0
				for _, st := range s.starts(fmt.Sprint("s", i)) {
					n += st
				}
				if n != started[i] {
					t.Errorf("seed %d: s%d was started %d times, and %d starts are told", seed, i, started[i], n)
				}
			}
			if deaths < 5 {
				t.Errorf("only %d supervisors have died", deaths)
			}
			for i := range 6 {
				if _, err := s.Stop(t.Context(), fmt.Sprint("s", i), time.Second, "me"); err != nil {
					t.Error(err)
				}
			}
			if j := slices.Collect(maps.Keys(s.journal.running)); len(j) != 0 {
				t.Errorf("the journal has %v", j)
			}
			s.over()
		})
	}
}

// starts counts the events of a start by request: not those that follow a pause.
func (s *supervised) starts(name string) (list []int) {
	last := ""
	for _, state := range s.states(name) {
		if state == "starting" && last != "waiting" {
			list = append(list, 1)
		}
		last = state
	}
	return list
}

// joins adds services that cannot have what they are to have, or cannot be recorded: all
// is as it was.
func joins(t *testing.T, s *supervised) {
	t.Helper()
	add := func(command, says string) {
		t.Helper()
		_, err := s.Add(t.Context(), runs("extra", command))
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", command, err, says)
		}
	}
	add("sleep 1s", "")
	s.fake.full.Store(true)
	add("sleep 2s", "extra is not declared: no address is free")
	s.fake.full.Store(false)
	s.journal.full.Store(true)
	add("sleep 3s", "no space left")
	s.journal.full.Store(false)
	if st, err := s.Status(t.Context(), "extra"); err != nil || st.Service.Command[1] != "1s" || s.fake.has("extra") != "sleep 1s" {
		t.Errorf("%+v, %v, joined %q", st, err, s.fake.has("extra"))
	}
	add("sleep 4s", "")
	if has := s.fake.has("extra"); has != "sleep 4s" {
		t.Errorf("joined %q", has)
	}
	if _, err := s.Remove(t.Context(), "extra"); err != nil || s.fake.has("extra") != "" {
		t.Errorf("%v, joined %q", err, s.fake.has("extra"))
	}
}

// What was added to a host before has what it had, and is recorded anew if that is other
// than it was.
func TestRestore(t *testing.T) {
	h := newFakeHost()
	j := &fakeJournal{running: make(map[string]string), declared: make(map[string][]netip.Addr)}
	s := New(h, j, Config{})
	if err := s.Declare(runs("web", "exit 0")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		had    []netip.Addr
		writes int
	}{{"a", []netip.Addr{addressOf("a")}, 0}, {"b", nil, 1}, {"c", []netip.Addr{addressOf("d")}, 2}} {
		if err := s.Restore(runs(c.name, "exit 0"), c.had); err != nil || h.has(c.name) == "" || j.writes != c.writes {
			t.Errorf("%s: %v, joined %q, %d writes", c.name, err, h.has(c.name), j.writes)
		}
	}
	if err := s.Restore(runs("web", "exit 1"), nil); !errors.Is(err, services.ErrState) || h.has("web") != "" {
		t.Errorf("in place of the configuration's: %v", err)
	}
	h.full.Store(true)
	if err := s.Restore(runs("e", "exit 0"), nil); err == nil || s.Known("e") == nil {
		t.Errorf("without what it is to have: %v, known: %v", err, s.Known("e"))
	}
}
