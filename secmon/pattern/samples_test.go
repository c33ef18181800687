package pattern

import (
	"strings"
	"testing"

	"warder/secmon/pattern/sigma"
)

// Every shipped rule that alerts says on what it does and on what it does not,
// and that is so.
func TestShippedSamples(t *testing.T) {
	l, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	alerting := 0
	for _, r := range l.Rules {
		if !l.set.Standalone[r.Rule] {
			continue
		}
		alerting++
		if len(r.Samples.Positive) == 0 || len(r.Samples.Negative) == 0 {
			t.Errorf("%s: %q has %d positive and %d negative samples", r.File(), r.Title, len(r.Samples.Positive), len(r.Samples.Negative))
		}
		if !strings.Contains(strings.Join(r.Tags, " "), "attack.t") || r.ID == "" || r.Description == "" || r.Level == "" {
			t.Errorf("%s: %q has no technique, id, description or level", r.File(), r.Title)
		}
	}
	if alerting < 40 {
		t.Errorf("%d rules alert, 40 are promised", alerting)
	}
	samples, failures, err := l.Test()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range failures {
		t.Error(f)
	}
	t.Logf("%d rules, %d samples", alerting, samples)
}

// A sample that comes out wrong is told of with its place.
func TestFailure(t *testing.T) {
	sample := "warder: {samples: {positive: [{name: ls, events: [{event.dataset: warder.task, event.action: exec, host.name: a, process.executable: /bin/ls}]}]}}"
	l := library(t, strings.Replace(programs, "level: low", "level: low\n"+sample, 1))
	n, failures, err := l.Test()
	if err != nil || n != 1 || len(failures) != 1 {
		t.Fatalf("%d samples, %d failures, %v", n, len(failures), err)
	}
	if want := `test.yaml:6:32: "curl" does not alert on the sample "ls"`; !strings.HasPrefix(failures[0].Error(), want) {
		t.Errorf("%v, want %s", failures[0], want)
	}
	rules, err := sigma.Parse("x.yaml", []byte(strings.Replace(programs, "level: low", "level: low\nwarder: {samples: {positive: [{name: x, events: [{event.dataset: warder.dream}]}]}}", 1)), sigma.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewLibrary(rules); err == nil || !strings.Contains(err.Error(), "not an event of warder") {
		t.Errorf("a sample that is no event: %v", err)
	}
}
