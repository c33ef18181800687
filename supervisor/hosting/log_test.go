package hosting

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"warder/supervisor/services"
)

func lines(t *testing.T, s *supervised, n int) (list []Line) {
	t.Helper()
	if err := s.Logs(t.Context(), "a", n, false, func(l Line) error { list = append(list, l); return nil }); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t, newFakeHost(), runs("a", "say one say two exit 0"))
		ctx, cancel := context.WithCancel(t.Context())
		followed := make(chan string, 10)
		go s.Logs(ctx, "a", -1, true, func(l Line) error { followed <- l.Text; return nil })
		for range 2 { // what an earlier VM said stays
			if _, err := s.Start(t.Context(), "a", ""); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Wait(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		for _, want := range []string{"one", "two", "one", "two"} {
			if got := <-followed; got != want {
				t.Errorf("%q, want %q", got, want)
			}
		}
		cancel()
		if got := lines(t, s, 3); len(got) != 3 || got[0].Text != "two" || got[0].Seq != 2 || got[2].Stream != "stdout" {
			t.Errorf("%+v", got)
		}
		if got := lines(t, s, -1); len(got) != 4 {
			t.Errorf("%+v", got)
		}
		if got := lines(t, s, 0); len(got) != 0 {
			t.Errorf("%+v", got)
		}
		if err := s.Logs(t.Context(), "b", 1, false, nil); !errors.Is(err, services.ErrUnknown) {
			t.Errorf("of no service: %v", err)
		}
		s.over()
	})
}

// A guest's output is bounded, whatever it is, and what is lost is counted.
func TestLogIsBounded(t *testing.T) {
	s := supervise(t, newFakeHost(), runs("a", "exit 0"))
	e, _, err := s.find("a")
	if err != nil {
		t.Fatal(err)
	}
	w := &splitter{log: e.log, stream: "stdout"}
	w.Write(bytes.Repeat([]byte{'x'}, 3*maxLine+1))
	w.Write([]byte("\nbad \xff\xfe utf-8\r\n\nend"))
	w.flush()
	w.flush()
	got := lines(t, s, -1)
	if len(got) != 7 || len(got[0].Text) != maxLine || got[3].Text != "x" || got[4].Text != "bad \ufffd utf-8" || got[5].Text != "" || got[6].Text != "end" {
		t.Errorf("%d lines, the last: %+v", len(got), got[max(0, len(got)-4):])
	}
	for range 100 {
		w.Write(bytes.Repeat([]byte{'y'}, 1<<20))
		w.Write(bytes.Repeat([]byte{'\n'}, 1<<12))
	}
	if e.log.held > logRoom || cap(e.log.kept) > 4*logRoom/96 {
		t.Errorf("%d bytes in %d lines are kept", e.log.held, cap(e.log.kept))
	}
	var lost uint64
	first := true
	err = play(t.Context(), e.log, 5, false, func(l Line, n uint64) error {
		lost += n
		if first && l.Seq != 5+n {
			return fmt.Errorf("line %d after %d that are lost", l.Seq, n)
		}
		first = false
		return nil
	})
	if err != nil || lost == 0 {
		t.Errorf("%d lost, %v", lost, err)
	}
}

func TestEventsAreBounded(t *testing.T) {
	s := supervise(t, newFakeHost(), runs("a", "exit 0"), runs("b", "exit 0"))
	e, _, err := s.find("a")
	if err != nil {
		t.Fatal(err)
	}
	for range 10000 {
		s.mu.Lock()
		s.record(e, services.Record{Status: services.Status{State: services.Starting, Why: strings.Repeat("w", 100)}})
		s.mu.Unlock()
	}
	if s.events.held > eventRoom {
		t.Errorf("%d bytes are kept", s.events.held)
	}
	if got := s.states("b"); len(got) != 0 {
		t.Errorf("b: %q", got)
	}
	if got := s.states(""); len(got) < 100 {
		t.Errorf("%d events", len(got))
	}
}
