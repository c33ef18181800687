package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// An outcome is how a test or a package's tests ended.
type outcome string

// The outcomes, as go test -json names them.
const (
	passed  outcome = "pass"
	failed  outcome = "fail"
	skipped outcome = "skip"
)

// A testID names a test; the test of a package as a whole is the empty one.
type testID struct{ Package, Test string }

func (id testID) String() string {
	if id.Test == "" {
		return id.Package
	}
	return id.Package + "." + id.Test
}

// A record is what is known of one test.
type record struct {
	Outcome outcome // empty while it runs, and for ever when it never ended
	Elapsed time.Duration
	Output  string // bounded by maxOutput
	cut     bool
	whole   bool // it ended, and said how
	flaky   bool // it failed, and passed when it was run again
}

const maxOutput = 64 << 10

// A run is the results of running tests in one place.
type run struct {
	Place string // "here", "lab amd64", "lab arm64"
	tests map[testID]*record
	order []testID
}

func newRun(place string) *run {
	return &run{Place: place, tests: map[testID]*record{}}
}

func (r *run) record(id testID) *record {
	rec := r.tests[id]
	if rec == nil {
		rec = &record{}
		r.tests[id] = rec
		r.order = append(r.order, id)
	}
	return rec
}

// forget drops what is known of a package, before it runs again.
func (r *run) forget(pkg string) {
	kept := r.order[:0]
	for _, id := range r.order {
		if id.Package == pkg {
			delete(r.tests, id)
		} else {
			kept = append(kept, id)
		}
	}
	r.order = kept
}

// fail makes a package's run a failure for a reason that its own output does
// not give.
func (r *run) fail(pkg, reason string) {
	rec := r.record(testID{Package: pkg})
	rec.Outcome, rec.whole = failed, false
	rec.Output += reason + "\n"
}

// An event is a line of go test -json.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build output, instead of Package
	FailedBuild string
	Test        string
	Elapsed     float64 // seconds
	Output      string
}

// consume adds the events of a go test -json stream. done is called with each
// package that ended.
func (r *run) consume(stream io.Reader, done func(pkg string)) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("test event %q: %w", lines.Text(), err)
		}
		if r.add(e) && done != nil {
			done(e.Package)
		}
	}
	return lines.Err()
}

// add adds an event and reports whether it ends a package.
func (r *run) add(e event) bool {
	if e.Package == "" { // "warder/vmm [warder/vmm.test]"
		e.Package, _, _ = strings.Cut(e.ImportPath, " ")
	}
	rec := r.record(testID{e.Package, e.Test})
	switch e.Action {
	case "output", "build-output":
		rec.write(e.Output)
	case "build-fail":
		rec.Outcome = failed
	case string(passed), string(failed), string(skipped):
		if o := outcome(e.Action); rec.Outcome != failed { // of several runs, one that failed stands
			rec.Outcome = o
		}
		rec.whole = true
		rec.Elapsed = time.Duration(e.Elapsed * float64(time.Second))
		return e.Test == ""
	}
	return false
}

func (rec *record) write(s string) {
	if room := maxOutput - len(rec.Output); len(s) > room {
		if !rec.cut {
			rec.Output += s[:max(room, 0)] + "\n(more output was dropped)\n"
			rec.cut = true
		}
		return
	}
	rec.Output += s
}

// settle turns what never ended in a package into failures.
func (r *run) settle(pkg string) {
	for id, rec := range r.tests {
		if id.Package == pkg && rec.Outcome == "" {
			rec.Outcome, rec.whole = failed, false
			rec.Output += "it started and never ended\n"
		}
	}
}

// failures settles everything and returns what failed.
func (r *run) failures() []testID {
	var bad []testID
	for _, id := range r.order {
		r.settle(id.Package)
		if r.tests[id].Outcome == failed {
			bad = append(bad, id)
		}
	}
	return bad
}
