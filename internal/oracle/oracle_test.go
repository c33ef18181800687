package oracle

import (
	"path/filepath"
	"testing"
)

// ending records how a test would have ended.
type ending struct {
	testing.TB
	fatal, skip bool
}

func (e *ending) Helper()               {}
func (e *ending) Fatalf(string, ...any) { e.fatal = true }
func (e *ending) Skipf(string, ...any)  { e.skip = true }

func TestMissing(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "absent")
	for ci, wantFatal := range map[string]bool{"true": true, "": false} {
		t.Setenv("CI", ci)
		var command, file ending
		Command(&command, absent, "nothing")
		File(&file, absent, "nowhere")
		for _, e := range []ending{command, file} {
			if e.fatal != wantFatal || e.skip == wantFatal {
				t.Errorf("CI=%q: failed %t, skipped %t", ci, e.fatal, e.skip)
			}
		}
	}
}

func TestPresent(t *testing.T) {
	var e ending
	if path := Command(&e, "go", "golang"); path == "" || e.fatal || e.skip {
		t.Errorf("go is at %q, failed %t, skipped %t", path, e.fatal, e.skip)
	}
	dir := t.TempDir()
	if path := File(&e, dir, "nowhere"); path != dir || e.fatal || e.skip {
		t.Errorf("%q, failed %t, skipped %t", path, e.fatal, e.skip)
	}
}
