package main

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// maxAgain is how many failed tests of a lab are run again. More than that is
// no chance.
const maxAgain = 3

// again runs the tests that failed once more, each package's in an outer machine
// of its own, to tell a defect from a machine that stood still under the test:
// the lab emulates one virtual machine in another and its CPUs stop for seconds
// when the host is busy. A test that passes now is counted as passed and named
// as flaky, with what it said when it failed.
func (l *labRun) again(ctx context.Context) error {
	bad := l.run.again(maxAgain)
	for _, p := range l.tests {
		names := bad[p.ImportPath]
		if len(names) == 0 {
			continue
		}
		l.report.note("%s: %s: once more, alone: %s", l.run.Place, p.ImportPath, strings.Join(names, ", "))
		l.close()
		second := &labRun{o: l.o, arch: l.arch, dir: l.dir, cpus: l.cpus, cfg: l.cfg, report: l.report, run: newRun(l.run.Place)}
		second.o.run = only(names)
		err := second.test(ctx, p)
		second.close()
		if err != nil {
			return err
		}
		l.report.packageDone(second.run, p.ImportPath)
		l.run.forgive(p.ImportPath, names, second.run)
	}
	return nil
}

// only is an expression that matches these top-level tests.
func only(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = regexp.QuoteMeta(n)
	}
	return "^(" + strings.Join(quoted, "|") + ")$"
}

// again returns, by package, the top-level tests that failed and may be run
// again: none when there are more than limit, or when a package failed in another
// way than by failing tests.
func (r *run) again(limit int) map[string][]string {
	bad := map[string][]string{}
	n := 0
	for _, id := range r.failures() {
		if id.Test != "" && !strings.Contains(id.Test, "/") {
			bad[id.Package] = append(bad[id.Package], id.Test)
			n++
		}
	}
	for _, id := range r.failures() {
		if rec := r.tests[id]; !rec.whole || bad[id.Package] == nil {
			return nil
		}
	}
	if n > limit {
		return nil
	}
	return bad
}

// forgive takes over from second what passed there of a package's tests.
func (r *run) forgive(pkg string, names []string, second *run) {
	if len(names) == 0 {
		return
	}
	for _, name := range names {
		if !second.tests[testID{pkg, name}].passed() {
			continue
		}
		for _, id := range slices.Collect(maps.Keys(r.tests)) {
			if id.Package == pkg && (id.Test == name || strings.HasPrefix(id.Test, name+"/")) {
				r.tests[id].flaky = r.tests[id].Outcome == failed
				r.tests[id].Outcome = passed
			}
		}
	}
	for id, rec := range r.tests {
		if id.Package == pkg && id.Test != "" && rec.Outcome == failed {
			return
		}
	}
	r.tests[testID{Package: pkg}].Outcome = passed
}
