package services

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"warder/supervisor/declaration"
	"warder/supervisor/verify"
)

func TestOneLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		h.slow = 3 * time.Second
		s := declared(t, h, nil, runs("web", "sleep 1h"), runs("once", "exit 0"), runs("bad", "exit 3"), runs("gone", "crash sleep 1h"), runs("missing", "missing"))
		st, err := s.Start(t.Context(), "web", "user 0")
		if err != nil || st.State != Running || st.By != "user 0" || st.Starts != 1 {
			t.Fatalf("%+v, %v", st, err)
		}
		if _, err := s.Start(t.Context(), "web", "x"); !errors.Is(err, ErrState) {
			t.Errorf("started twice: %v", err)
		}
		if _, err := s.Start(t.Context(), "nobody", "x"); !errors.Is(err, ErrUnknown) {
			t.Errorf("a service that is not there: %v", err)
		}
		if err := remove(t, s, "web"); !errors.Is(err, ErrState) {
			t.Errorf("removed while it ran: %v", err)
		}
		if err := s.Declare(runs("web", "exit 1"), false); !errors.Is(err, ErrState) {
			t.Errorf("declared anew while it ran: %v", err)
		}
		if st, err := s.Stop(t.Context(), "web", 0, "user 7"); err != nil || st.State != Stopped || st.Why != "stopped by user 7" || st.Exit == nil || st.Exit.Signal != 15 {
			t.Errorf("%+v, %v", st, err)
		}
		want(t, s, "web", "starting", "running", "stopping", "stopped")
		for name, state := range map[string]State{"once": Ended, "bad": Failed, "gone": Failed, "missing": Failed} {
			if _, err := s.Start(t.Context(), name, ""); err != nil {
				t.Error(err)
			}
			if st, err := s.Wait(t.Context(), name); err != nil || st.State != state {
				t.Errorf("%s: %+v, %v", name, st, err)
			}
		}
		if st, _ := s.Status("gone"); !strings.Contains(st.Why, "crashed") && !strings.Contains(st.Why, "gone") {
			t.Errorf("%+v", st)
		}
		if err := remove(t, s, "web"); !errors.Is(err, ErrState) {
			t.Errorf("removed, though the configuration has it: %v", err)
		}
		settled(t, s, h)
		s.Close()
		if _, err := s.Start(t.Context(), "once", ""); !errors.Is(err, ErrClosed) {
			t.Errorf("started by a set that is closed: %v", err)
		}
	})
}

func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		again := runs("again", "sleep 1s exit 1")
		again.Restart = declaration.Restart{Policy: declaration.RestartOnFailure, Delay: declaration.Duration(time.Second), MaxDelay: declaration.Duration(4 * time.Second), Limit: 4}
		fine := runs("fine", "sleep 1s")
		fine.Restart.Policy = declaration.RestartOnFailure
		always := runs("always", "sleep 6m")
		always.Restart = declaration.Restart{Policy: declaration.RestartAlways, Limit: 1}
		broken := runs("broken", "exit 0")
		broken.Restart = declaration.Restart{Policy: declaration.RestartAlways, Limit: 2}
		h.fail["broken"] = errors.New("no kernel")
		s := declared(t, h, nil, again, fine, always, broken)

		began := time.Now()
		for _, name := range []string{"again", "fine", "always", "broken"} {
			if _, err := s.Start(t.Context(), name, ""); err != nil {
				t.Fatal(err)
			}
		}
		st, err := s.Wait(t.Context(), "again")
		if err != nil || st.State != Failed || st.Starts != 5 || !strings.Contains(st.Why, "4 new starts") {
			t.Errorf("%+v, %v", st, err)
		}
		// Five runs of a second, with pauses of 1, 2, 4 and 4.
		if took := time.Since(began); took != 16*time.Second {
			t.Errorf("it took %v", took)
		}
		if st, _ := s.Status("fine"); st.State != Ended || st.Starts != 1 {
			t.Errorf("%+v", st)
		}
		if st, _ := s.Status("broken"); st.State != Failed || st.Starts != 3 || !strings.Contains(st.Why, "no kernel") {
			t.Errorf("%+v", st)
		}
		// Each run is a steady one, so the limit of one new start is never reached.
		time.Sleep(time.Hour)
		if st, _ := s.Status("always"); st.State != Running || st.Starts < 9 {
			t.Errorf("%+v", st)
		}
		if _, err := s.Stop(t.Context(), "always", 0, ""); err != nil {
			t.Error(err)
		}
		settled(t, s, h)
	})
}

// A service that waits to be started again holds what it has, and can be stopped.
func TestStopInEachState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		h.slow = 10 * time.Second
		d := runs("a", "exit 1")
		d.Restart = declaration.Restart{Policy: declaration.RestartAlways, Delay: declaration.Duration(10 * time.Second)}
		s := declared(t, h, nil, d)
		for _, at := range []struct {
			after time.Duration
			state State
		}{{5 * time.Second, Starting}, {15 * time.Second, Waiting}} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if _, err := s.Start(ctx, "a", ""); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("start: %v", err)
			}
			cancel()
			time.Sleep(at.after - time.Second)
			if st, _ := s.Status("a"); st.State != at.state {
				t.Errorf("%+v, want %s", st, at.state)
			}
			if len(s.Balance().Grants) != 1 {
				t.Error("it holds nothing")
			}
			if st, err := s.Stop(t.Context(), "a", 0, "me"); err != nil || st.State != Stopped {
				t.Errorf("%+v, %v", st, err)
			}
			settled(t, s, h)
		}
		if st, err := s.Stop(t.Context(), "a", 0, "me"); err != nil || st.State != Stopped {
			t.Errorf("stopped again: %+v, %v", st, err)
		}
	})
}

func TestStopHasADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		s := declared(t, h, nil, runs("deaf", "deaf sleep 1h"))
		if _, err := s.Start(t.Context(), "deaf", ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // for the command to have begun
		began := time.Now()
		st, err := s.Stop(t.Context(), "deaf", 5*time.Second, "me")
		if took := time.Since(began); err != nil || st.State != Stopped || took != 5*time.Second+switchOff || !strings.Contains(st.Why, "killed") {
			t.Errorf("after %v: %+v, %v", took, st, err)
		}
		settled(t, s, h)
	})
}

func TestHealth(t *testing.T) {
	health := func(command string, period time.Duration) *declaration.Health {
		return &declaration.Health{
			Command: strings.Fields(command), Interval: declaration.Duration(10 * time.Second), Timeout: declaration.Duration(2 * time.Second),
			Retries: 3, StartPeriod: declaration.Duration(period),
		}
	}
	for name, tt := range map[string]struct {
		check  string
		period time.Duration
		state  State         // at last
		ready  time.Duration // until Start returns
		over   time.Duration // until the end, 0 for none
		why    string
	}{
		"well at once":    {"exit 0", 0, Running, 0, 0, ""},
		"well later":      {"ok-after 20s", 0, Running, 20 * time.Second, 0, ""},
		"never well":      {"exit 1", 30 * time.Second, Failed, time.Minute, time.Minute, "not well within 1m0s"},
		"takes too long":  {"sleep 5s", 0, Failed, 30 * time.Second, 30 * time.Second, "longer than 2s"},
		"no such command": {"missing", time.Hour, Failed, 0, 0, "no such program"},
		"well no more":    {"ok-until 60s", 0, Failed, 0, 80 * time.Second, "failed 3 checks in a row"},
		"says why":        {"ok-after 1h", 0, Failed, 30 * time.Second, 30 * time.Second, "status 1: not yet"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newFakeHost()
				d := runs("a", "sleep 100h")
				d.Health = health(tt.check, tt.period)
				s := declared(t, h, nil, d)
				began := time.Now()
				if _, err := s.Start(t.Context(), "a", ""); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took.Round(5*time.Second) != tt.ready {
					t.Errorf("ready after %v, want %v", took, tt.ready)
				}
				time.Sleep(10 * time.Minute)
				st, _ := s.Status("a")
				if st.State != tt.state || !strings.Contains(st.Why, tt.why) || strings.Contains(st.Why, "\x1b") {
					t.Errorf("%+v", st)
				}
				if took := st.Since.Sub(began); tt.over != 0 && took.Round(5*time.Second) != tt.over {
					t.Errorf("over after %v, want %v", took, tt.over)
				}
				if tt.state == Running && st.Health != "ok" {
					t.Errorf("health %q", st.Health)
				}
				s.Close()
				settled(t, s, h)
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		a, b, c := runs("a", "sleep 1h"), runs("b", "sleep 1h"), runs("c", "sleep 1h")
		a.CPUs, b.CPUs = 3, 2
		a.Disks, c.Disks = []string{"d"}, []string{"d"}
		s := declared(t, h, nil, a, b, c)
		if _, err := s.Start(t.Context(), "a", ""); err != nil {
			t.Fatal(err)
		}
		for name, resource := range map[string]string{"b": "vcpus", "c": "disk d"} {
			_, err := s.Start(t.Context(), name, "")
			if r, ok := errors.AsType[*verify.Refusal](err); !ok || r.Resource != resource {
				t.Errorf("%s: %v", name, err)
			}
			if h.count(name) != 0 {
				t.Errorf("%s was booted", name)
			}
		}
		absent := runs("d", "exit 0")
		absent.Disks = []string{"absent"}
		h.decls["d"] = absent
		if err := s.Declare(absent, false); err != nil {
			t.Error(err)
		}
		if _, err := s.Start(t.Context(), "d", ""); err == nil || !strings.Contains(err.Error(), "no such disk") {
			t.Errorf("a service with a disk that is not there: %v", err)
		}
		if err := s.Declare(declaration.Service{Name: "../x"}, false); err == nil {
			t.Error("a service with a name that is a path")
		}
		s.Close()
		settled(t, s, h)
	})
}

// fakeJournal counts what is started and not ended, and keeps all records.
type fakeJournal struct {
	mu       sync.Mutex
	declared []string
	running  map[string]string
	full     bool
	records  []Record
	sized    []resized
	wrong    []Record // of sizes that are not held
}

func newFakeJournal() *fakeJournal { return &fakeJournal{running: make(map[string]string)} }

func (j *fakeJournal) Declared(_ context.Context, name string) error {
	j.declared = append(j.declared, name)
	return nil
}

func (j *fakeJournal) Removed(_ context.Context, name string) error {
	j.declared = append(j.declared, "-"+name)
	return nil
}

func (j *fakeJournal) Started(_ context.Context, r Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.full {
		return errors.New("no space left on device")
	}
	j.running[r.Status.Name] = r.Status.By
	j.records = append(j.records, r)
	return nil
}

func (j *fakeJournal) Changed(r Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records = append(j.records, r)
}

func (j *fakeJournal) Sized(r Record, by Sized, why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.sized = append(j.sized, resized{r.Status.Name, by})
	if r.Held.Memory < r.Size.Memory || r.Size != by.To && by.From != by.To {
		j.wrong = append(j.wrong, r)
	}
}

// resized is a change of a service's size.
type resized struct {
	name string
	by   Sized
}

func remove(t *testing.T, s *Set, name string) error {
	t.Helper()
	_, err := s.Remove(t.Context(), name)
	return err
}

func (j *fakeJournal) Ended(name string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.running, name)
	return nil
}

func TestJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, j := newFakeHost(), newFakeJournal()
		s := declared(t, h, j, runs("a", "sleep 1h"), runs("b", "sleep 1h"), runs("c", "exit 0"))
		for _, name := range []string{"a", "b", "c"} {
			if _, err := s.Start(t.Context(), name, "me"); err != nil {
				t.Fatal(err)
			}
		}
		for _, err := range []error{s.Add(t.Context(), runs("d", "exit 1")), s.Add(t.Context(), runs("d", "exit 0")), remove(t, s, "d"), s.Add(t.Context(), runs("e", "exit 0"))} {
			if err != nil {
				t.Error(err)
			}
		}
		if err := s.Add(t.Context(), runs("c", "exit 1")); !errors.Is(err, ErrState) {
			t.Errorf("a service of the configuration was declared anew: %v", err)
		}
		if got := fmt.Sprint(j.declared); got != "[d d -d e]" {
			t.Errorf("declared: %s", got)
		}
		if _, err := s.Stop(t.Context(), "b", 0, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Wait(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		j.full = true
		if _, err := s.Start(t.Context(), "b", "me"); err == nil {
			t.Error("started without a record of it")
		}
		if len(s.Balance().Grants) != 1 {
			t.Errorf("held: %+v", s.Balance())
		}
		s.Close()
		if fmt.Sprint(j.running) != "map[a:me]" {
			t.Errorf("to be started again: %v", j.running)
		}
		settled(t, s, h)
	})
}

func TestResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, j := newFakeHost(), &fakeJournal{running: map[string]string{"a": "me", "big": "me", "gone": "me"}}
		big := runs("big", "sleep 1h")
		big.CPUs = 100
		s := declared(t, h, j, runs("a", "sleep 1h"), big)
		if err := s.Declare(runs("added", "exit 0"), true); err != nil || len(j.declared) != 0 {
			t.Errorf("%v, %v", err, j.declared)
		}
		if err := s.Resume(t.Context(), "a", "me"); err != nil {
			t.Error(err)
		}
		if _, ok := errors.AsType[*verify.Refusal](s.Resume(t.Context(), "big", "me")); !ok {
			t.Error("more was granted than there is")
		}
		if err := s.Resume(t.Context(), "gone", "me"); !errors.Is(err, ErrUnknown) {
			t.Errorf("a service that is not declared any more: %v", err)
		}
		if fmt.Sprint(j.running) != "map[a:me]" {
			t.Errorf("to be started again: %v", j.running)
		}
		if st, err := s.Status("big"); err != nil || st.State != Failed || !strings.Contains(st.Why, "vcpus") {
			t.Errorf("%+v, %v", st, err)
		}
		s.Close()
		settled(t, s, h)
	})
}

// Whatever is asked by many at once, the books balance at the end, and each
// request has one outcome.
func TestManyRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		h.slow = time.Second
		j := newFakeJournal()
		var list []declaration.Service
		for i := range 12 {
			d := runs(fmt.Sprint("s", i), []string{"sleep 1h", "sleep 20s", "sleep 3s exit 1"}[i%3])
			d.Disks = []string{fmt.Sprint("disk", i%5)}
			if i%2 == 0 {
				d.Restart = declaration.Restart{Policy: declaration.RestartAlways, Limit: 3}
			}
			list = append(list, d)
		}
		s := declared(t, h, j, list...)
		var outcomes, refused int
		var mu sync.Mutex
		var all sync.WaitGroup
		for client := range 16 {
			all.Go(func() {
				r := rand.New(rand.NewPCG(7, uint64(client)))
				for range 50 {
					name := fmt.Sprint("s", r.IntN(12))
					var err error
					switch r.IntN(3) {
					case 0:
						_, err = s.Stop(t.Context(), name, time.Second, "me")
					default:
						_, err = s.Start(t.Context(), name, "me")
					}
					mu.Lock()
					outcomes++
					if _, ok := errors.AsType[*verify.Refusal](err); ok {
						refused++
					} else if err != nil && !errors.Is(err, ErrState) {
						t.Errorf("%s: %v", name, err)
					}
					mu.Unlock()
					time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
					for _, g := range s.Balance().Grants {
						if st, err := s.Status(g.Holder); err != nil || st.Name != g.Holder {
							t.Errorf("%s holds something: %v", g.Holder, err)
						}
					}
				}
			})
		}
		all.Wait()
		if outcomes != 16*50 || refused == 0 {
			t.Errorf("%d outcomes, %d refused", outcomes, refused)
		}
		s.Close()
		settled(t, s, h)
	})
}
