package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// A reporter prints what happens, a line a package, and what failed in full.
type reporter struct {
	mu    sync.Mutex
	w     io.Writer
	began time.Time
	// How many of the tests that took longest are named at the end.
	slowest int
}

func newReporter(w io.Writer, slowest int) *reporter {
	return &reporter{w: w, began: time.Now(), slowest: slowest}
}

// note prints a line with the time since the start.
func (r *reporter) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.w, "[%5s] %s\n", r.elapsed(), fmt.Sprintf(format, args...))
}

// logger returns a logger whose records are notes about a place.
func (r *reporter) logger(place string) *slog.Logger {
	noTimeOrLevel := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}
	return slog.New(slog.NewTextHandler(noteWriter{r, place}, &slog.HandlerOptions{ReplaceAttr: noTimeOrLevel}))
}

type noteWriter struct {
	r     *reporter
	place string
}

func (n noteWriter) Write(p []byte) (int, error) {
	n.r.note("%s: %s", n.place, strings.TrimSpace(string(p)))
	return len(p), nil
}

func (r *reporter) elapsed() string {
	d := time.Since(r.began).Round(time.Second)
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// packageDone prints a package's line and the output of what failed in it.
func (r *reporter) packageDone(from *run, pkg string) {
	from.settle(pkg)
	c := from.count(pkg)
	if c == (counts{}) && from.tests[testID{Package: pkg}].Outcome == skipped {
		return // no test files
	}
	line := fmt.Sprintf("%s: %s: %s", from.Place, pkg, c)
	if rec := from.tests[testID{Package: pkg}]; rec.Elapsed >= time.Second {
		line += fmt.Sprintf(" in %v", rec.Elapsed.Round(100*time.Millisecond))
	}
	r.note("%s", line)
	for _, id := range from.order {
		rec := from.tests[id]
		if id.Package != pkg || rec.Outcome != failed {
			continue
		}
		r.note("%s: FAILED %v\n%s", from.Place, id, indent(rec.Output))
	}
}

// ending is the last of an output's lines: the whole is above.
func ending(output string) string {
	const most = 20
	lines := strings.Split(strings.TrimRight(output, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}

func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n    ")
}

// counts are numbers of tests.
type counts struct{ passed, failed, skipped int }

func (c counts) String() string {
	s := fmt.Sprintf("%d passed", c.passed)
	if c.skipped > 0 {
		s += fmt.Sprintf(", %d skipped", c.skipped)
	}
	if c.failed > 0 {
		s += fmt.Sprintf(", %d FAILED", c.failed)
	}
	return s
}

func (c *counts) add(o outcome) {
	switch o {
	case passed:
		c.passed++
	case failed:
		c.failed++
	case skipped:
		c.skipped++
	}
}

// count counts the tests of a package, or of all when pkg is empty. A package
// that failed without a test that did counts as one.
func (r *run) count(pkg string) counts {
	var c counts
	bad := map[string]bool{}
	for id, rec := range r.tests {
		if id.Test != "" && (pkg == "" || id.Package == pkg) {
			c.add(rec.Outcome)
			bad[id.Package] = bad[id.Package] || rec.Outcome == failed
		}
	}
	for id, rec := range r.tests {
		if id.Test == "" && (pkg == "" || id.Package == pkg) && rec.Outcome == failed && !bad[id.Package] {
			c.failed++
		}
	}
	return c
}

// summary prints the table of all runs, what is missing, and the line that
// scripts look for. It reports whether all is well.
func (r *reporter) summary(runs []*run, missing []string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var total counts
	var bad [][]testID
	fmt.Fprintln(r.w)
	t := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "where\tpackages\tpassed\tfailed\tskipped\t")
	for _, run := range runs {
		bad = append(bad, run.failures())
		c := run.count("")
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t\n", run.Place, run.packages(), c.passed, c.failed, c.skipped)
		total.passed += c.passed
		total.failed += c.failed
		total.skipped += c.skipped
	}
	t.Flush()
	for _, line := range slowest(runs, r.slowest) {
		fmt.Fprintln(r.w, line)
	}
	for i, run := range runs {
		for _, id := range run.order {
			if rec := run.tests[id]; rec.flaky {
				fmt.Fprintf(r.w, "FLAKY %s: %v: failed, and passed when it was run again alone\n%s\n", run.Place, id, indent(ending(rec.Output)))
			}
		}
		for _, id := range bad[i] {
			fmt.Fprintf(r.w, "FAILED %s: %v\n%s\n", run.Place, id, indent(ending(run.tests[id].Output)))
		}
	}
	for _, m := range missing {
		fmt.Fprintln(r.w, "MISSING", m)
	}
	total.failed += len(missing)
	fmt.Fprintf(r.w, "\nafter %s:\n%d passed, %d failed\n", r.elapsed(), total.passed, total.failed)
	return total.failed == 0
}

// slowest describes the n top-level tests that took longest, of those that
// took seconds.
func slowest(runs []*run, n int) []string {
	type timed struct {
		place string
		id    testID
		took  time.Duration
	}
	var all []timed
	for _, run := range runs {
		for id, rec := range run.tests {
			if id.Test != "" && !strings.Contains(id.Test, "/") && rec.Elapsed >= time.Second {
				all = append(all, timed{run.Place, id, rec.Elapsed})
			}
		}
	}
	slices.SortFunc(all, func(a, b timed) int { return cmp.Compare(b.took, a.took) })
	var lines []string
	for _, t := range all[:min(n, len(all))] {
		lines = append(lines, fmt.Sprintf("slow: %v in %s: %v", t.id, t.place, t.took.Round(time.Second)))
	}
	return lines
}

// packages is the number of packages that had tests.
func (r *run) packages() int {
	seen := map[string]bool{}
	for id := range r.tests {
		if id.Test != "" {
			seen[id.Package] = true
		}
	}
	return len(seen)
}
