package hosting

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"warder/supervisor/declaration"
	"warder/supervisor/services"
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
		s := supervise(t, h, d, runs("b", "sleep 1h"))
		var all sync.WaitGroup
		var mu sync.Mutex
		var releases []func()
		var alive context.Context
		for range 20 {
			all.Go(func() {
				a, release, err := s.Hold(t.Context(), "a", "")
				if err != nil {
					t.Error(err)
					return
				}
				if st, err := s.Status(t.Context(), "a"); err != nil || st.State != services.Running || st.Health != "ok" || st.By != services.ByConnection {
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
		state := func(want services.State) {
			t.Helper()
			synctest.Wait()
			if st, err := s.Status(t.Context(), "a"); err != nil || st.State != want {
				t.Errorf("it is %+v, want %s, %v", st, want, err)
			}
		}
		for i, release := range releases {
			time.Sleep(2 * time.Minute)
			release()
			if release(); i < len(releases)-1 { // once more is none more
				state(services.Running)
			}
		}
		time.Sleep(30 * time.Second)
		_, again, err := s.Hold(t.Context(), "a", "") // somebody comes before the minute is over
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		state(services.Running)
		again()
		time.Sleep(59 * time.Second)
		state(services.Running)
		if alive.Err() != nil {
			t.Error("a connection to a service that runs is given up")
		}
		time.Sleep(2 * time.Second)
		state(services.Stopped)
		if st, _ := s.Status(t.Context(), "a"); st.Why != "stopped by the host: no connection for 1m0s" {
			t.Errorf("%+v", st)
		}
		if alive.Err() == nil {
			t.Error("a connection outlives the VM")
		}
		// The next one, of another service, starts it again; what somebody starts is not idle.
		if _, again, err = s.Hold(t.Context(), "a", "b"); err != nil || h.count("a") != 2 {
			t.Fatalf("%v, %d", err, h.count("a"))
		}
		if st, err := s.Status(t.Context(), "a"); err != nil || st.By != "a connection of b" {
			t.Errorf("%+v, %v", st, err)
		}
		again()
		time.Sleep(61 * time.Second)
		state(services.Stopped)
		if _, err := s.Start(t.Context(), "a", "me"); err != nil {
			t.Fatal(err)
		}
		if _, again, err = s.Hold(t.Context(), "a", ""); err != nil {
			t.Fatal(err)
		}
		again()
		time.Sleep(time.Hour)
		state(services.Running)
		for name, want := range map[string]error{"b": services.ErrState, "none": services.ErrUnknown} {
			if _, _, err := s.Hold(t.Context(), name, ""); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		if _, err := s.Stop(t.Context(), "a", 0, "me"); err != nil {
			t.Error(err)
		}
		s.over()
		if _, _, err := s.Hold(t.Context(), "a", ""); !errors.Is(err, services.ErrClosed) {
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
		s := supervise(t, h, onDemand("broken", "sleep 1h", declaration.OnDemand{}), wide, slow)
		for range 100 {
			if _, _, err := s.Hold(t.Context(), "broken", ""); err == nil || !strings.Contains(err.Error(), "no kernel") {
				t.Fatal(err)
			}
		}
		if n := h.count("broken"); n != 1 {
			t.Errorf("it was tried %d times at once", n)
		}
		time.Sleep(10 * time.Second)
		s.Hold(t.Context(), "broken", "")
		if n := h.count("broken"); n != 2 {
			t.Errorf("after the pause it was tried %d times", n)
		}
		var refusal *verify.Refusal
		if _, _, err := s.Hold(t.Context(), "wide", ""); !errors.As(err, &refusal) || refusal.Resource != "vcpus" {
			t.Errorf("what the machine does not have: %v", err)
		}
		began := time.Now()
		if _, _, err := s.Hold(t.Context(), "slow", ""); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "starting") {
			t.Errorf("what does not become well: %v", err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("it was waited for %v", took)
		}
		// As many wait as may, and not one more.
		var all sync.WaitGroup
		errs := make(chan error, 2*maxHeld)
		for range 2 * maxHeld {
			all.Go(func() { _, _, err := s.Hold(t.Context(), "slow", ""); errs <- err })
		}
		all.Wait()
		full := 0
		for range 2 * maxHeld {
			if err := <-errs; errors.Is(err, services.ErrState) {
				full++
			} else if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
		}
		if full != maxHeld {
			t.Errorf("%d were turned away", full)
		}
		synctest.Wait()
		if e := s.services["slow"]; e.demand != (demand{}) || s.Host.waiting != 0 {
			t.Errorf("still counted: %+v, %d", e.demand, s.Host.waiting)
		}
		if _, err := s.Stop(t.Context(), "slow", 0, "me"); err != nil {
			t.Error(err)
		}
		s.over()
	})
}

// A connection waits for what others hold, under several supervisors too, and is told what
// there is not enough of in time.
func TestHoldWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		a, b := onDemand("a", "sleep 100h", declaration.OnDemand{Wait: declaration.Duration(100 * time.Second)}), runs("b", "sleep 100h")
		a.CPUs, b.CPUs = 2, 3
		s := supervise(t, h, a, b)
		if _, err := s.Start(t.Context(), "b", "me"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, _, err := s.Hold(t.Context(), "a", "")
		if r, ok := errors.AsType[*verify.Refusal](err); !ok || r.Resource != "vcpus" || r.Wanted != 2 || r.Free != 1 || time.Since(began) != 90*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		held := make(chan error, 20)
		for range 20 {
			go func() {
				_, _, err := s.Hold(t.Context(), "a", "")
				held <- err
			}()
		}
		time.Sleep(20 * time.Second)
		if b, err := s.Balance(t.Context()); err != nil || len(b.Waiting) != 1 || b.Waiting[0].Service != "a" {
			t.Errorf("%+v, %v", b, err)
		}
		s.kill()
		time.Sleep(20 * time.Second)
		s.connect()
		time.Sleep(20 * time.Second)
		if _, err := s.Stop(t.Context(), "b", time.Second, "me"); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if err := <-held; err != nil {
				t.Error(err)
			}
		}
		if n := h.count("a"); n != 1 {
			t.Errorf("%d VMs were started", n)
		}
		if _, err := s.Stop(t.Context(), "a", time.Second, "me"); err != nil {
			t.Error(err)
		}
		s.over()
	})
}

// Connections that hold a service hold it under the next supervisor too, those that wait
// are served by it, and what was begun for them is not begun twice.
func TestHoldUnderTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		h.slow = 10 * time.Second
		s := supervise(t, h, onDemand("a", "sleep 100h", declaration.OnDemand{Idle: declaration.Duration(time.Minute)}), onDemand("once", "sleep 5s exit 1", declaration.OnDemand{}))
		type hold struct {
			alive   context.Context
			release func()
			err     error
		}
		held := make(chan hold)
		ask := func(name string) {
			go func() {
				alive, release, err := s.Hold(t.Context(), name, "")
				held <- hold{alive, release, err}
			}()
		}
		replace := func() {
			s.kill()
			time.Sleep(2 * time.Second)
			s.connect()
		}
		ask("a")
		ask("a")
		time.Sleep(5 * time.Second)
		replace() // while it boots
		one, two := <-held, <-held
		if one.err != nil || two.err != nil || one.alive != two.alive || h.count("a") != 1 {
			t.Fatalf("%v, %v, %d VMs", one.err, two.err, h.count("a"))
		}
		state := func(want services.State) {
			t.Helper()
			synctest.Wait()
			if st, err := s.Status(t.Context(), "a"); err != nil || st.State != want || st.By != services.ByConnection {
				t.Errorf("it is %+v, want %s, %v", st, want, err)
			}
		}
		one.release()
		replace()
		time.Sleep(time.Hour)
		state(services.Running)
		s.kill()
		two.release() // while there is none
		time.Sleep(time.Second)
		s.connect()
		time.Sleep(59 * time.Second)
		state(services.Running)
		replace() // which gives it its whole time again
		time.Sleep(59 * time.Second)
		state(services.Running)
		if one.alive.Err() != nil {
			t.Error("it is given up while it runs")
		}
		time.Sleep(2 * time.Second)
		state(services.Stopped)
		if one.alive.Err() == nil || h.count("a") != 1 {
			t.Errorf("%d VMs, %v", h.count("a"), one.alive.Err())
		}

		// Of a start that was decided under the last one only the outcome is told.
		ask("once")
		time.Sleep(5 * time.Second)
		s.kill()
		time.Sleep(20 * time.Second) // by now its command has ended
		s.connect()
		if it := <-held; it.err == nil {
			it.release()
		}
		if st, err := s.Wait(t.Context(), "once"); err != nil || st.Starts != 1 || h.count("once") != 1 {
			t.Errorf("%+v, %v, %d VMs", st, err, h.count("once"))
		}
		s.over()
	})
}
