package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// What tests say when they skip. Need of package testkvm says the first; the
// second is for what no emulator has.
const (
	runsInLab     = "runs in the lab"
	needsHardware = "needs hardware"
)

// verify returns what the runs together do not prove, one line each: a test
// that was put off here must have passed in the lab of this machine's
// architecture, and a test may be skipped in a lab only if it passed here. What
// needs hardware that no lab has is let off both.
func verify(here *run, native string, labs map[string]*run) []string {
	var missing []string
	if here != nil && labs[native] != nil {
		for _, id := range here.order {
			rec := here.tests[id]
			if rec.Outcome != skipped || id.Test == "" || !strings.Contains(rec.Output, runsInLab) {
				continue
			}
			if r := labs[native].tests[id]; !r.passed() && !r.needsHardware() {
				missing = append(missing, fmt.Sprintf("%v: put off to the lab here, but did not pass in %s", id, labs[native].Place))
			}
		}
	}
	for _, arch := range slices.Sorted(maps.Keys(labs)) {
		r := labs[arch]
		for _, id := range r.order {
			rec := r.tests[id]
			if rec.Outcome != skipped || id.Test == "" || rec.needsHardware() {
				continue
			}
			if passedOrUnknown(here, id) && !strings.Contains(rec.Output, runsInLab) {
				continue
			}
			missing = append(missing, fmt.Sprintf("%v: skipped in %s: %s", id, r.Place, reason(rec.Output)))
		}
	}
	return missing
}

// passedOrUnknown reports whether a test passed here, or the tests here were
// not run at all.
func passedOrUnknown(here *run, id testID) bool {
	if here == nil {
		return true
	}
	return here.tests[id].passed()
}

func (rec *record) passed() bool { return rec != nil && rec.Outcome == passed }

func (rec *record) needsHardware() bool {
	return rec != nil && rec.Outcome == skipped && strings.Contains(rec.Output, needsHardware)
}

// reason is the line of a skipped test's output that says why.
func reason(output string) string {
	for line := range strings.SplitSeq(output, "\n") {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			return line
		}
	}
	return "no reason given"
}
