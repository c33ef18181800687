package declaration

import (
	"errors"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// A Duration is a time as people write it: 30s, 5m.
type Duration time.Duration

func (d Duration) String() string { return time.Duration(d).String() }

func (d *Duration) set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil || v <= 0 {
		return errors.New("give a time, as in 30s or 5m")
	}
	*d = Duration(v)
	return nil
}

// UnmarshalYAML parses it, with the place of what is wrong.
func (d *Duration) UnmarshalYAML(node ast.Node) error { return at(node, d.set) }

// MarshalText gives it as it is written.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText parses it.
func (d *Duration) UnmarshalText(b []byte) error { return d.set(string(b)) }
