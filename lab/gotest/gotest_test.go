package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// events is a run of two packages as go test -json prints it: one is fine,
// in the other a test fails, one panics the binary, and the end is missing.
const events = `{"Action":"start","Package":"warder/a"}
{"Action":"run","Package":"warder/a","Test":"TestOne"}
{"Action":"output","Package":"warder/a","Test":"TestOne","Output":"=== RUN   TestOne\n"}
{"Action":"pass","Package":"warder/a","Test":"TestOne","Elapsed":0.5}
{"Action":"run","Package":"warder/a","Test":"TestKVM"}
{"Action":"output","Package":"warder/a","Test":"TestKVM","Output":"    a_test.go:5: runs in the lab\n"}
{"Action":"skip","Package":"warder/a","Test":"TestKVM","Elapsed":0}
{"Action":"pass","Package":"warder/a","Elapsed":1.5}
{"Action":"start","Package":"warder/b"}
{"Action":"run","Package":"warder/b","Test":"TestBad"}
{"Action":"output","Package":"warder/b","Test":"TestBad","Output":"it broke\n"}
{"Action":"fail","Package":"warder/b","Test":"TestBad","Elapsed":0}
{"Action":"run","Package":"warder/b","Test":"TestCut"}
{"ImportPath":"warder/c [warder/c.test]","Action":"build-output","Output":"c.go:1: syntax error\n"}
{"ImportPath":"warder/c [warder/c.test]","Action":"build-fail"}
`

func parse(t *testing.T, place, text string) *run {
	t.Helper()
	r := newRun(place)
	if err := r.consume(strings.NewReader(text), nil); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestConsume(t *testing.T) {
	r := newRun("here")
	var ended []string
	if err := r.consume(strings.NewReader(events), func(pkg string) { ended = append(ended, pkg) }); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"warder/a"}, ended); diff != "" {
		t.Errorf("packages that ended: -want +got\n%s", diff)
	}
	var bad []string
	for _, id := range r.failures() {
		bad = append(bad, id.String())
	}
	if diff := cmp.Diff([]string{"warder/b", "warder/b.TestBad", "warder/b.TestCut", "warder/c"}, bad); diff != "" {
		t.Errorf("failures: -want +got\n%s", diff)
	}
	if got, want := r.count(""), (counts{passed: 1, failed: 3, skipped: 1}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	if out := r.tests[testID{"warder/b", "TestCut"}].Output; !strings.Contains(out, "never ended") {
		t.Errorf("a test that never ended says %q", out)
	}
}

func TestForgetBeforeRunningAgain(t *testing.T) {
	r := parse(t, "lab", events)
	r.forget("warder/b")
	r.failures()
	if got, want := r.count(""), (counts{passed: 1, failed: 1, skipped: 1}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	if slices.ContainsFunc(r.order, func(id testID) bool { return id.Package == "warder/b" }) {
		t.Error("the package is still in the order")
	}
}

func TestOutputIsBounded(t *testing.T) {
	var rec record
	for range 100 {
		rec.write(strings.Repeat("x", 4096))
	}
	if len(rec.Output) > maxOutput+100 || !strings.HasSuffix(rec.Output, "was dropped)\n") {
		t.Errorf("%d bytes kept, ending %q", len(rec.Output), rec.Output[len(rec.Output)-30:])
	}
}

func result(pkg, test, outcome, output string) string {
	return `{"Action":"output","Package":"` + pkg + `","Test":"` + test + `","Output":"    x_test.go:1: ` + output + `\n"}
{"Action":"` + outcome + `","Package":"` + pkg + `","Test":"` + test + `"}
`
}

func TestVerify(t *testing.T) {
	here := result("p", "KVM", "skip", "runs in the lab") + result("p", "Tool", "pass", "") + result("p", "Other", "skip", "no such tool")
	for name, c := range map[string]struct {
		amd64, arm64 string
		want         []string
	}{
		"all well": {
			amd64: result("p", "KVM", "pass", "") + result("p", "Tool", "skip", "no tool"),
			arm64: result("p", "KVM", "pass", ""),
		},
		"put off and never run": {
			want: []string{"p.KVM: put off to the lab here, but did not pass in lab amd64"},
		},
		"put off and failed": {
			amd64: result("p", "KVM", "fail", "oh"),
			want:  []string{"p.KVM: put off to the lab here, but did not pass in lab amd64"},
		},
		"put off again": {
			amd64: result("p", "KVM", "skip", "runs in the lab"),
			want: []string{
				"p.KVM: put off to the lab here, but did not pass in lab amd64",
				"p.KVM: skipped in lab amd64: x_test.go:1: runs in the lab",
			},
		},
		"skipped on the other": {
			amd64: result("p", "KVM", "pass", ""),
			arm64: result("p", "KVM", "skip", "no GIC"),
			want:  []string{"p.KVM: skipped in lab arm64: x_test.go:1: no GIC"},
		},
		"put off, but only hardware has it": {
			amd64: result("p", "KVM", "skip", "needs hardware: INT3 intercept"),
		},
		"only hardware has it": {
			amd64: result("p", "KVM", "pass", "") + result("p", "Int3", "skip", "needs hardware: INT3 intercept"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			labs := map[string]*run{"amd64": parse(t, "lab amd64", c.amd64), "arm64": parse(t, "lab arm64", c.arm64)}
			got := verify(parse(t, "here", here), "amd64", labs)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestFailuresRunAgain(t *testing.T) {
	sub := func(outcome string) string {
		return result("p", "Two/x", outcome, "") + result("p", "Two", outcome, "")
	}
	end := result("p", "", "fail", "FAIL")
	for name, c := range map[string]struct {
		first  string
		again  []string // of p
		second string
		failed int
		flaky  int
	}{
		"passes":            {result("p", "One", "pass", "") + sub("fail") + end, []string{"Two"}, sub("pass"), 0, 2},
		"fails again":       {result("p", "One", "pass", "") + sub("fail") + end, []string{"Two"}, sub("fail"), 2, 0},
		"does not run":      {result("p", "One", "fail", "") + end, []string{"One"}, "", 1, 0},
		"one of two":        {result("p", "One", "fail", "") + sub("fail") + end, []string{"One", "Two"}, sub("pass") + result("p", "One", "fail", ""), 1, 2},
		"too many":          {result("p", "A", "fail", "") + result("p", "B", "fail", "") + result("p", "C", "fail", "") + end, nil, "", 3, 0},
		"never ended":       {`{"Action":"run","Package":"p","Test":"One"}` + "\n" + result("p", "Two", "fail", "") + end, nil, "", 2, 0},
		"no test that did":  {result("p", "One", "pass", "") + end, nil, "", 1, 0},
		"failed, then well": {result("p", "One", "fail", "") + result("p", "One", "pass", "") + end, []string{"One"}, result("p", "One", "pass", ""), 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := parse(t, "lab", c.first)
			names := r.again(2)["p"]
			if diff := cmp.Diff(c.again, names); diff != "" {
				t.Errorf("to run again: -want +got\n%s", diff)
			}
			r.forgive("p", names, parse(t, "lab", c.second))
			flaky := 0
			for _, rec := range r.tests {
				if rec.flaky {
					flaky++
				}
			}
			if got := r.count("").failed; got != c.failed || flaky != c.flaky {
				t.Errorf("%d failed, %d flaky, want %d and %d", got, flaky, c.failed, c.flaky)
			}
			var b bytes.Buffer
			if ok := newReporter(&b, 8).summary([]*run{r}, nil); ok != (c.failed == 0) || strings.Contains(b.String(), "FLAKY") != (c.flaky > 0) {
				t.Errorf("the summary says %v:\n%s", ok, &b)
			}
		})
	}
}

func TestSummarySaysWhatScriptsLookFor(t *testing.T) {
	good := parse(t, "here", result("p", "One", "pass", "")+result("p", "Two", "pass", ""))
	bad := parse(t, "lab", result("p", "One", "fail", "oh"))
	for name, c := range map[string]struct {
		runs    []*run
		missing []string
		ok      bool
		line    string
	}{
		"good":    {[]*run{good}, nil, true, "2 passed, 0 failed"},
		"bad":     {[]*run{good, bad}, nil, false, "2 passed, 1 failed"},
		"missing": {[]*run{good}, []string{"p.KVM: put off"}, false, "2 passed, 1 failed"},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if ok := newReporter(&b, 8).summary(c.runs, c.missing); ok != c.ok {
				t.Errorf("well: %v, want %v", ok, c.ok)
			}
			if !slices.Contains(strings.Split(b.String(), "\n"), c.line) {
				t.Errorf("no line %q in\n%s", c.line, &b)
			}
		})
	}
}

// TestCPUsFor takes the number of CPUs from the command line, a package's file, or 1.
func TestCPUsFor(t *testing.T) {
	dir := func(content string) string {
		d := t.TempDir()
		if err := os.Mkdir(filepath.Join(d, "testdata"), 0o755); err != nil {
			t.Fatal(err)
		}
		if content != "" {
			if err := os.WriteFile(filepath.Join(d, labCPUs), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	for _, c := range []struct {
		option  int
		content string
		want    int
	}{{0, "", 1}, {0, "2\n", 2}, {1, "2\n", 1}, {3, "", 3}} {
		if n, err := (options{cpus: c.option}).cpusFor(dir(c.content)); n != c.want || err != nil {
			t.Errorf("-cpus %d and %q: %d, %v, want %d", c.option, c.content, n, err, c.want)
		}
	}
	if n, err := (options{}).cpusFor(dir("two")); err == nil {
		t.Errorf("%q is %d CPUs", "two", n)
	}
}
