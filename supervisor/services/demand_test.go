package services

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"warder/supervisor/declaration"
	"warder/supervisor/verify"
)

// onDemand is a service that connections start.
func onDemand(name, command string, d declaration.OnDemand) declaration.Service {
	s := runs(name, command)
	s.OnDemand = &d
	return s
}

// Connections start a service once, however many they are, wait until it is well, and
// when the last has been gone for a while it is stopped.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		h.slow = 3 * time.Second
		d := onDemand("a", "sleep 100h", declaration.OnDemand{Idle: declaration.Duration(time.Minute)})
		d.Health = &declaration.Health{Command: []string{"ok-after", "5s"}, Interval: declaration.Duration(time.Second), StartPeriod: declaration.Duration(time.Minute)}
		s := declared(t, h, nil, d, runs("b", "sleep 1h"))
		var all sync.WaitGroup
		var mu sync.Mutex
		var releases []func()
		var alive context.Context
		for range 20 {
			all.Go(func() {
				a, release, err := s.Hold(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				if st, err := s.Status("a"); err != nil || st.State != Running || st.Health != "ok" || st.By != byConnection {
					t.Errorf("held while it is %+v, %v", st, err)
				}
				mu.Lock()
				defer mu.Unlock()
				releases, alive = append(releases, release), a
			})
		}
		all.Wait()
		if n := h.count("a"); n != 1 {
			t.Errorf("%d VMs were started", n)
		}
		state := func(want State) {
			t.Helper()
			synctest.Wait()
			if st, err := s.Status("a"); err != nil || st.State != want {
				t.Errorf("it is %+v, want %s, %v", st, want, err)
			}
		}
		for i, release := range releases {
			time.Sleep(2 * time.Minute)
			release()
			if release(); i < len(releases)-1 { // once more is none more
				state(Running)
			}
		}
		time.Sleep(30 * time.Second)
		_, again, err := s.Hold(t.Context(), "a") // somebody comes before the minute is over
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		state(Running)
		again()
		time.Sleep(59 * time.Second)
		state(Running)
		if alive.Err() != nil {
			t.Error("a connection to a service that runs is given up")
		}
		time.Sleep(2 * time.Second)
		state(Stopped)
		if st, _ := s.Status("a"); st.Why != "stopped by the host: no connection for 1m0s" {
			t.Errorf("%+v", st)
		}
		if alive.Err() == nil {
			t.Error("a connection outlives the VM")
		}
		// The next one starts it again; what somebody starts is not idle.
		if _, again, err = s.Hold(t.Context(), "a"); err != nil || h.count("a") != 2 {
			t.Fatalf("%v, %d", err, h.count("a"))
		}
		again()
		if _, err := s.Stop(t.Context(), "a", 0, "me"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Start(t.Context(), "a", "me"); err != nil {
			t.Fatal(err)
		}
		if _, again, err = s.Hold(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		again()
		time.Sleep(time.Hour)
		state(Running)
		for name, want := range map[string]error{"b": ErrState, "none": ErrUnknown} {
			if _, _, err := s.Hold(t.Context(), name); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		s.Close()
		settled(t, s, h)
		if _, _, err := s.Hold(t.Context(), "a"); !errors.Is(err, ErrClosed) {
			t.Errorf("of a host that stops: %v", err)
		}
	})
}

// What does not come up is told those who wait, in the time that they have, and is not
// tried as often as it is asked for.
func TestHoldFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		h.fail["broken"] = errors.New("no kernel")
		wide := onDemand("wide", "sleep 1h", declaration.OnDemand{})
		wide.CPUs = 9
		slow := onDemand("slow", "sleep 1h", declaration.OnDemand{Wait: declaration.Duration(5 * time.Second)})
		slow.Health = &declaration.Health{Command: []string{"ok-after", "1h"}, StartPeriod: declaration.Duration(2 * time.Hour)}
		s := declared(t, h, nil, onDemand("broken", "sleep 1h", declaration.OnDemand{}), wide, slow)
		for range 100 {
			if _, _, err := s.Hold(t.Context(), "broken"); err == nil || !strings.Contains(err.Error(), "no kernel") {
				t.Fatal(err)
			}
		}
		if n := h.count("broken"); n != 1 {
			t.Errorf("it was tried %d times at once", n)
		}
		time.Sleep(failedPause)
		s.Hold(t.Context(), "broken")
		if n := h.count("broken"); n != 2 {
			t.Errorf("after the pause it was tried %d times", n)
		}
		var refusal *verify.Refusal
		if _, _, err := s.Hold(t.Context(), "wide"); !errors.As(err, &refusal) || refusal.Resource != "vcpus" {
			t.Errorf("what the machine does not have: %v", err)
		}
		began := time.Now()
		if _, _, err := s.Hold(t.Context(), "slow"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "starting") {
			t.Errorf("what does not become well: %v", err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it was waited for %v", took)
		}
		// As many wait as may, and not one more.
		var all sync.WaitGroup
		errs := make(chan error, 2*maxHeld)
		for range 2 * maxHeld {
			all.Go(func() { _, _, err := s.Hold(t.Context(), "slow"); errs <- err })
		}
		all.Wait()
		full := 0
		for range 2 * maxHeld {
			if err := <-errs; errors.Is(err, ErrState) {
				full++
			} else if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		if full != maxHeld {
			t.Errorf("%d were turned away", full)
		}
		if e := s.services["slow"]; e.demand.users != 0 || e.demand.waiting != 0 {
			t.Errorf("still counted: %+v", e.demand)
		}
		s.Close()
		settled(t, s, h)
	})
}
