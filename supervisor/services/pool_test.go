package services

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"warder/supervisor/verify"
)

// waiting is who waits, in order, as "name to do".
func waiting(s *Set) (list []string) {
	for _, w := range s.Balance().Waiting {
		list = append(list, w.Service+" to "+w.For)
	}
	return list
}

// TestTurns has services of several priorities wait for vCPUs of which there are
// four, and get them in order.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		s := declared(t, h, nil)
		for name, d := range map[string]struct{ cpus, priority int }{"all": {4, 0}, "first": {3, 5}, "second": {2, 1}, "third": {2, 1}, "fourth": {1, 0}} {
			service := runs(name, "sleep 24h")
			service.CPUs, service.Priority = d.cpus, d.priority
			h.decls[service.Name] = service.WithDefaults()
			if err := s.Declare(service, false); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Start(t.Context(), "all", "me"); err != nil {
			t.Fatal(err)
		}
		started := make(chan string, 8)
		start := func(ctx context.Context, name string, patience time.Duration) {
			go func() {
				st, err := s.StartWhenFree(ctx, name, "me", patience)
				started <- strings.TrimSpace(fmt.Sprint(name, " ", st.State, " ", err))
			}()
			time.Sleep(time.Millisecond) // which is before whoever asks next
			synctest.Wait()
		}
		start(t.Context(), "fourth", time.Hour)
		start(t.Context(), "second", time.Hour)
		start(t.Context(), "third", time.Hour)
		start(t.Context(), "first", time.Hour)
		if got := waiting(s); !slices.Equal(got, []string{"first to start", "second to start", "third to start", "fourth to start"}) {
			t.Errorf("waiting: %q", got)
		}
		// Nobody waits longer than he wants to.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		start(ctx, "all", time.Hour)
		defer cancel()
		if got := <-started; !strings.Contains(got, ErrState.Error()) {
			t.Errorf("one that runs: %s", got)
		}
		extra := runs("extra", "sleep 24h")
		extra.CPUs = 1
		h.decls[extra.Name] = extra.WithDefaults()
		if err := s.Declare(extra, false); err != nil {
			t.Fatal(err)
		}
		start(t.Context(), "extra", 10*time.Second)
		time.Sleep(11 * time.Second)
		if got := <-started; !strings.HasPrefix(got, "extra ") || !strings.Contains(got, "not enough vcpus") && !strings.Contains(got, "waits for more") {
			t.Errorf("one with little patience: %s", got)
		}
		go s.Stop(t.Context(), "all", time.Second, "me")
		// First gets three of the four; second, who wants two, holds up third and fourth, and
		// who asks now without a priority.
		if got := <-started; got != "first running <nil>" {
			t.Error(got)
		}
		time.Sleep(10 * time.Second)
		if got := waiting(s); !slices.Equal(got, []string{"second to start", "third to start", "fourth to start"}) {
			t.Errorf("waiting: %q", got)
		}
		_, err := s.Start(t.Context(), "extra", "me")
		if r, ok := errors.AsType[*verify.Refusal](err); !ok || r.Resource != verify.Turn || r.Holder != "second" {
			t.Errorf("one that pushes in: %v", err)
		}
		go s.Stop(t.Context(), "first", time.Second, "me")
		both := []string{<-started, <-started} // who is told first is not said
		if slices.Sort(both); !slices.Equal(both, []string{"second running <nil>", "third running <nil>"}) {
			t.Errorf("%q", both)
		}
		go s.Stop(t.Context(), "second", time.Second, "me")
		if got := <-started; got != "fourth running <nil>" {
			t.Error(got)
		}
		if got := waiting(s); len(got) != 0 {
			t.Errorf("still waiting: %q", got)
		}
		var order []string
		for _, r := range s.journal.(*fakeJournal).records {
			if r.Status.State == Starting {
				order = append(order, r.Status.Name)
			}
		}
		if !slices.Equal(order, []string{"all", "first", "second", "third", "fourth"}) {
			t.Errorf("started in the order %q", order)
		}
		s.Close()
		settled(t, s, h)
	})
}

// TestOthersWait has a guest give back at once what another wants, and one that wants
// to grow wait behind one that wants to start.
func TestOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		s := declared(t, h, nil, elastic("rich", 1024), elastic("poor", 512), elastic("new", 128))
		for _, name := range []string{"rich", "poor"} {
			if _, err := s.Start(t.Context(), name, "me"); err != nil {
				t.Fatal(err)
			}
		}
		h.need("rich", need{memory: 700 * mib})
		h.need("poor", need{memory: 20 * mib})
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		if held := books(t, s, "rich"); held < 780 || s.Balance().Promisable > 128*mib {
			t.Fatalf("rich holds %d MiB, %d are left", held, s.Balance().Promisable/mib)
		}
		h.need("poor", need{memory: 400 * mib})
		time.Sleep(10 * time.Second)
		done := make(chan error, 1)
		go func() {
			_, err := s.StartWhenFree(t.Context(), "new", "me", time.Hour)
			done <- err
		}()
		time.Sleep(time.Second)
		synctest.Wait()
		got := waiting(s)
		if slices.Contains(got, "new to start") && !slices.Equal(got, []string{"new to start", "poor to grow"}) {
			t.Errorf("waiting: %q", got)
		}
		h.need("rich", need{memory: 50 * mib})
		began := time.Now()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("it took %v for room", took)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if held := books(t, s, "poor"); held < 400 {
			t.Errorf("poor holds %d MiB", held)
		}
		if got := waiting(s); len(got) != 0 {
			t.Errorf("still waiting: %q", got)
		}
		s.Close()
		settled(t, s, h)
	})
}
