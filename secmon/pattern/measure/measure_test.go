package measure

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"warder/secmon/pattern"
	"warder/secmon/pattern/sigma"
)

// library is the rules that come with warder, with those of $RULES.
func library(t testing.TB) *pattern.Library {
	t.Helper()
	rules, err := pattern.ShippedRules()
	if err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("RULES"); dir != "" {
		more, err := pattern.ReadRules(os.DirFS(dir), sigma.Options{})
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, more...)
	}
	l, err := pattern.NewLibrary(rules)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLibrary(t *testing.T) {
	results, err := Library(t.Context(), library(t), Options{For: 20 * time.Millisecond, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]Result)
	for _, r := range results {
		if _, twice := byName[r.Name]; twice || r.Value < 0 {
			t.Errorf("%+v", r)
		}
		byName[r.Name] = r
	}
	for _, name := range []string{
		"0 % match, a core", "1 % match, a core", "10 % match, a core", "10 % match, 2 goroutines", "one by one, a core",
		"latency of an alert, p50", "latency of an alert, p99",
	} {
		if byName[name].Value <= 0 {
			t.Errorf("%s: %+v", name, byName[name])
		}
	}
	if fast, slow := byName["0 % match, a core"], byName["one by one, a core"]; fast.Value < 2*slow.Value {
		t.Errorf("%+v is not faster than %+v", fast, slow)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Library(ctx, library(t), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestGoals(t *testing.T) {
	got := Goals([]Result{{"0 % match, a core", 999_999, "events/s"}, {"latency of an alert, p99", 1000, "us"}, {"other", 1, "x"}})
	want := []string{"goal: 0 % match, a core, at least 1000000 events/s: MISSED, 999999", "goal: latency of an alert, p99, at most 1000 us: met, 1000"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// What is said to match does, and what is said not to does not.
func TestStreams(t *testing.T) {
	l := library(t)
	m := &measurement{library: l, matching: matches(l)}
	for _, percent := range shares {
		e, err := pattern.New(l, pattern.DefaultLimits)
		if err != nil {
			t.Fatal(err)
		}
		events := m.stream(percent)
		if len(events) < kinds*9/10 {
			t.Errorf("of %d events %d are everyday", kinds, len(events))
		}
		matched := 0
		for i := range events {
			before := e.Stats().Matches
			e.Observe(&events[i])
			if e.Stats().Matches > before {
				matched++
			}
		}
		if got := float64(matched) * 100 / float64(len(events)); got < float64(percent)*0.7 || got > float64(percent)*1.3 {
			t.Errorf("%v %% match, want %d", got, percent)
		}
	}
}

func TestCompile(t *testing.T) {
	r, err := Compile(40)
	if err != nil || r.Value <= 0 || !strings.Contains(r.Name, "compile 40 rules") {
		t.Errorf("%+v, %v", r, err)
	}
}

func BenchmarkObserve(b *testing.B) {
	l := library(b)
	m := &measurement{library: l, matching: matches(l)}
	for _, percent := range shares {
		events := m.stream(percent)
		e, err := pattern.New(l, pattern.DefaultLimits)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(map[int]string{0: "none", 1: "1%", 10: "10%"}[percent], func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				e.Observe(&events[i%len(events)])
			}
		})
	}
}
