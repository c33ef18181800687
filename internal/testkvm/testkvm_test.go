package testkvm

import (
	"fmt"
	"strings"
	"testing"
)

// recorder is a test that only notes how it ends.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Skip(args ...any) {
	r.skipped = fmt.Sprint(args...)
	panic(r)
}

func (r *recorder) Skipf(format string, args ...any) { r.Skip(fmt.Sprintf(format, args...)) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = fmt.Sprintf(format, args...)
	panic(r)
}

func ends(f func(testing.TB)) (r *recorder) {
	r = new(recorder)
	defer func() { _ = recover() }()
	f(r)
	return r
}

// What is missing is a marked skip on the host, and a failure in the lab.
func TestMissing(t *testing.T) {
	missing := func(tb testing.TB) { Missing(tb, "a thing") }
	t.Setenv("WARDER_LAB", "")
	if r := ends(missing); !strings.Contains(r.skipped, Marker) || !strings.Contains(r.skipped, "a thing") || r.failed != "" {
		t.Errorf("on the host: skipped %q, failed %q", r.skipped, r.failed)
	}
	t.Setenv("WARDER_LAB", "1")
	if r := ends(missing); !strings.Contains(r.failed, "a thing") || r.skipped != "" {
		t.Errorf("in the lab: skipped %q, failed %q", r.skipped, r.failed)
	}
}

// What the lab cannot have is skipped there without the marker of a promise.
func TestElsewhere(t *testing.T) {
	t.Setenv("WARDER_LAB", "1")
	for name, f := range map[string]func(testing.TB){
		"hardware": func(tb testing.TB) { NeedHardware(tb, "INT3") },
		"host":     func(tb testing.TB) { OnHost(tb, "source") },
	} {
		if r := ends(f); r.skipped == "" || strings.Contains(r.skipped, Marker) || r.failed != "" {
			t.Errorf("%s: skipped %q, failed %q", name, r.skipped, r.failed)
		}
	}
	t.Setenv("WARDER_LAB", "")
	if r := ends(func(tb testing.TB) { OnHost(tb, "source") }); r.skipped != "" || r.failed != "" {
		t.Errorf("on the host: skipped %q, failed %q", r.skipped, r.failed)
	}
}
