package pattern

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
)

//go:embed rules/*.yaml
var shipped embed.FS

// Shipped gives the rules that come with warder.
func Shipped() ([]*Rule, error) { return Load(shipped, "rules") }

// Load reads all .yaml and .yml files of one directory, in the order of their
// names. One faulty file fails the whole; so does an id that is there twice.
func Load(fsys fs.FS, dir string) ([]*Rule, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	var rules []*Rule
	seen := make(map[string]*Rule)
	for _, e := range entries {
		if ext := path.Ext(e.Name()); e.IsDir() || ext != ".yaml" && ext != ".yml" {
			continue
		}
		name := path.Join(dir, e.Name())
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, fmt.Errorf("rules: %w", err)
		}
		more, err := Parse(name, src)
		if err != nil {
			return nil, err
		}
		for _, r := range more {
			if other := seen[r.ID]; other != nil {
				return nil, fmt.Errorf("rules: %s and %s have the same id %s", other.Origin, r.Origin, r.ID)
			}
			seen[r.ID] = r
		}
		rules = append(rules, more...)
	}
	return rules, nil
}
