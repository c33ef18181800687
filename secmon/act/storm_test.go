package act

import (
	"testing"
	"time"

	"warder/secmon/event"
)

func TestHaltStorm(t *testing.T) {
	s := storm{rate: stormRate}
	at := time.Unix(100, 0)
	for i, c := range []struct {
		after time.Duration
		halts uint64
		is    bool
	}{
		{0, 1 << 40, false}, // those of before
		{time.Second, stormRate - 1, false},
		{time.Second, stormRate, true},
		{2 * time.Second, 2*stormRate - 1, false}, // looked at late
		{0, 1000, false},
		{time.Second, 0, false},
	} {
		at = at.Add(c.after)
		if rate, is := s.look(s.halts+c.halts, at); is != c.is {
			t.Errorf("%d: %d halts in %v: storm %v at %v a second", i, c.halts, c.after, is, rate)
		}
	}
	w, events, clock := watcher(t)
	w.storming(123456.7)
	for range burst + 10 {
		w.storming(stormRate)
	}
	*clock = clock.Add(time.Second)
	w.storming(stormRate)
	if len(*events) != burst+1 {
		t.Fatalf("%d events", len(*events))
	}
	e := (*events)[0]
	if e.Kind != event.Privileged || e.Action != HaltStorm || e.Message != "the guest halts its vCPUs 123457 times a second" || e.VM != "a" || e.Seq != 1 {
		t.Errorf("event %+v", e)
	}
	if last := (*events)[burst]; last.Access.Count != 12 {
		t.Errorf("the last stands for %d", last.Access.Count)
	}
}
