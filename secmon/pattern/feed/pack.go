package feed

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// PackFile is the file in a directory of rules that says what they are.
const PackFile = "pack.meta"

// Pack says what a directory of rules is.
type Pack struct {
	Name    string `yaml:"name"`    // letters a to z, digits, - inside
	Version string `yaml:"version"` // the author's
	Origin  string `yaml:"source"`  // whose rules they are, or where from
	Licence string `yaml:"licence"`
	// Minimum is the oldest warder that understands them, as 1.2; "" for any.
	Minimum string `yaml:"minimum_warder"`
}

// Version is what this warder is, for packs that need a certain one.
const Version = "0.1"

var packName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// readPack reads a pack's file and checks that its rules can be used here.
func readPack(fsys fs.FS) (Pack, error) {
	var p Pack
	text, err := fs.ReadFile(fsys, PackFile)
	if err != nil {
		return p, fmt.Errorf("a directory of rules has a file %s with name, version, source and licence: %w", PackFile, err)
	}
	if err := yaml.UnmarshalWithOptions(text, &p, yaml.Strict()); err != nil {
		return p, fmt.Errorf("%s: %s", PackFile, yaml.FormatError(err, false, true))
	}
	switch {
	case !packName.MatchString(p.Name):
		return p, fmt.Errorf("%s: name %q: give letters a to z, digits, - inside", PackFile, p.Name)
	case p.Version == "" || p.Origin == "" || p.Licence == "":
		return p, fmt.Errorf("%s: version, source and licence are needed", PackFile)
	}
	newer, err := after(p.Minimum, Version)
	if err != nil {
		return p, fmt.Errorf("%s: minimum_warder %q: %w", PackFile, p.Minimum, err)
	}
	if newer {
		return p, fmt.Errorf("%s %s needs warder %s, this is %s: update warder first", p.Name, p.Version, p.Minimum, Version)
	}
	return p, nil
}

// after says whether version a comes after b.
func after(a, b string) (bool, error) {
	if a == "" {
		return false, nil
	}
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range x {
		n, err := strconv.ParseUint(x[i], 10, 32)
		if err != nil {
			return false, fmt.Errorf("give numbers with dots between")
		}
		m := uint64(0)
		if i < len(y) {
			m, _ = strconv.ParseUint(y[i], 10, 32)
		}
		if n != m {
			return n > m, nil
		}
	}
	return false, nil
}

// Bounds on what a source may send.
const (
	maxFiles = 5000
	maxFile  = 1 << 20 // bytes
	maxTotal = 64 << 20
)

// safeName says whether a file of a repository has a name that stays inside of a
// directory, and is one of a pack.
func safeName(name string) bool {
	ext := path.Ext(name)
	return fs.ValidPath(name) && len(name) <= 200 && !strings.ContainsAny(name, "\\%") &&
		(name == PackFile || ext == ".yml" || ext == ".yaml")
}
