package services

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"warder/supervisor/declaration"
	"warder/supervisor/verify"
)

// TestDemandWaits has connections ask for a service for which there is no room. They wait in
// the one place of the service, each as long as it will, and have it begun once.
func TestDemandWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		all, wanted, wide := runs("all", "sleep 24h"), runs("wanted", "sleep 24h"), runs("wide", "sleep 24h")
		all.CPUs, wanted.CPUs, wide.CPUs, wide.Priority = 4, 2, 5, 9
		wanted.OnDemand, wide.OnDemand = &declaration.OnDemand{}, &declaration.OnDemand{}
		s := declared(t, h, nil, all, wanted, wide)
		if _, err := s.Start(t.Context(), "all", "me"); err != nil {
			t.Fatal(err)
		}
		number := uint64(0)
		type outcome struct {
			st    Status
			err   error
			after time.Duration
		}
		connect := func(ctx context.Context, name string, patience time.Duration) <-chan outcome {
			number++
			is := number
			over := make(chan outcome, 1)
			began := time.Now()
			go func() {
				st, err := s.Demand(ctx, name, "", is, false, patience)
				over <- outcome{st, err, time.Since(began)}
			}()
			synctest.Wait()
			return over
		}
		refused := func(c <-chan outcome, after time.Duration) {
			t.Helper()
			o := <-c
			if r, ok := errors.AsType[*verify.Refusal](o.err); !ok || r.Resource != "vcpus" || r.Committed != 4 || o.after != after {
				t.Errorf("%+v, want a refusal after %v", o, after)
			}
		}
		// What there will never be room for, or may not wait, holds nobody up.
		refused(connect(t.Context(), "wide", time.Hour), 0)
		refused(connect(t.Context(), "wanted", 0), 0)

		gone, leave := context.WithCancel(t.Context())
		first := connect(gone, "wanted", time.Hour)
		short := connect(t.Context(), "wanted", 5*time.Second)
		var rest []<-chan outcome
		for range 10 {
			rest = append(rest, connect(t.Context(), "wanted", time.Hour))
		}
		came := time.Now()
		if got := waiting(s); !slices.Equal(got, []string{"wanted to start"}) {
			t.Errorf("waiting: %q", got)
		}
		refused(short, 5*time.Second)
		leave()
		if o := <-first; !errors.Is(o.err, context.Canceled) {
			t.Errorf("%+v", o)
		}
		synctest.Wait()
		if w := s.Balance().Waiting; len(w) != 1 || w[0].Since.After(came) { // in the place of one that came with it
			t.Errorf("waiting: %+v", w)
		}
		time.Sleep(time.Minute)
		if _, err := s.Stop(t.Context(), "all", time.Second, "me"); err != nil {
			t.Fatal(err)
		}
		for _, c := range rest {
			if o := <-c; o.err != nil || o.st.State != Running || o.st.By != ByConnection {
				t.Errorf("%+v", o)
			}
		}
		if n := h.count("wanted"); n != 1 || len(waiting(s)) != 0 {
			t.Errorf("it was begun %d times, waiting: %q", n, waiting(s))
		}

		// A start that fails is one for all who wait.
		for _, name := range []string{"wanted", "all"} {
			if _, err := s.Stop(t.Context(), name, time.Second, "me"); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Start(t.Context(), "all", "me"); err != nil {
			t.Fatal(err)
		}
		h.mu.Lock()
		h.fail["wanted"] = errors.New("no kernel")
		h.mu.Unlock()
		rest = rest[:0]
		for range 10 {
			rest = append(rest, connect(t.Context(), "wanted", time.Hour))
		}
		if _, err := s.Stop(t.Context(), "all", time.Second, "me"); err != nil {
			t.Fatal(err)
		}
		for _, c := range rest {
			if o := <-c; o.err == nil {
				t.Errorf("%+v", o)
			}
		}
		if n := h.count("wanted"); n != 2 {
			t.Errorf("it was begun %d times", n-1)
		}
		s.Close()
		settled(t, s, h)
	})
}

// Connections that wait for a service hear that it is removed.
func TestRemovedWhileWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		all, wanted := runs("all", "sleep 24h"), runs("wanted", "sleep 24h")
		all.CPUs, wanted.OnDemand = 4, &declaration.OnDemand{}
		s := declared(t, h, nil, all)
		h.decls["wanted"] = wanted.WithDefaults()
		if err := s.Add(t.Context(), wanted); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Start(t.Context(), "all", "me"); err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 4)
		for i := range 4 {
			go func() {
				_, err := s.Demand(t.Context(), "wanted", "", uint64(i+1), false, time.Hour)
				errs <- err
			}()
		}
		synctest.Wait()
		if err := remove(t, s, "wanted"); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			if err := <-errs; !errors.Is(err, ErrUnknown) {
				t.Error(err)
			}
		}
		if got := waiting(s); len(got) != 0 {
			t.Errorf("waiting: %q", got)
		}
		s.Close()
		settled(t, s, h)
	})
}
