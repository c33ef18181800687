//go:build compat

package detect_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"warder/secmon/pattern/detect"
	"warder/secmon/pattern/example"
	"warder/secmon/pattern/sigma"
)

// All rules of a set that is not part of the project load, and each matches
// an event that was built from it and no other evaluation contradicts.
func TestCompatibility(t *testing.T) {
	dir := os.Getenv("RULES")
	if dir == "" {
		t.Fatal("set RULES to a directory of rules")
	}
	var rules []*sigma.Rule
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yml" && filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		more, err := sigma.Parse(path, text, sigma.Options{})
		if err != nil {
			t.Error(err)
		}
		rules = append(rules, more...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	rules = slices.DeleteFunc(rules, func(r *sigma.Rule) bool {
		if r.Detection == nil {
			return true
		}
		if _, err := detect.Compile([]*sigma.Rule{r}); err != nil {
			t.Error(err)
			return true
		}
		return false
	})
	if len(rules) == 0 {
		t.Fatalf("no rules under %s", dir)
	}
	p := compile(t, rules)
	for i, r := range rules {
		e, err := example.Of(r)
		if err != nil {
			t.Errorf("%s: %v", r.File(), err)
			continue
		}
		if !slices.Contains(matched(p, e), i) {
			t.Errorf("%s: does not match the event made for it: %+v", r.File(), e)
		}
	}
	t.Logf("%d rules load and match", len(rules))
}
