package declaration

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
)

// A Size is a number of bytes as people write it: 512M, 2G, a plain number being
// MiB.
type Size uint64

func (s *Size) String() string {
	switch {
	case *s == 0:
		return ""
	case *s%(1<<20) != 0:
		return strconv.FormatUint(uint64(*s)>>10, 10) + "K"
	}
	return strconv.FormatUint(uint64(*s)>>20, 10) + "M"
}

// Type names it in a command's help.
func (s *Size) Type() string { return "size" }

var errSize = errors.New("give a number with K, M, G or T, as in 512M")

// Set parses it.
func (s *Size) Set(v string) error {
	digits, shift := v, 20
	if i := strings.IndexFunc(v, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		digits = v[:i]
		switch strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(v[i:]), "b"), "i") {
		case "k":
			shift = 10
		case "m":
		case "g":
			shift = 30
		case "t":
			shift = 40
		default:
			return errSize
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n == 0 || n > 1<<62>>shift {
		return errSize
	}
	*s = Size(n << shift)
	return nil
}

// A Memory is a VM's memory: a size, or two with a colon between them: what its
// guest is started with, and what it is given once it is up. Most is 0 for a
// single size, both are 0 for the usual one.
type Memory struct{ Start, Most Size }

func (m *Memory) String() string {
	if m.Most == 0 {
		return m.Start.String()
	}
	return m.Start.String() + ":" + m.Most.String()
}

// Type names it in a command's help.
func (m *Memory) Type() string { return "size[:size]" }

// Set parses it.
func (m *Memory) Set(v string) error {
	var n Memory
	start, most, two := strings.Cut(v, ":")
	if err := n.Start.Set(start); err != nil {
		return err
	}
	if two {
		if err := n.Most.Set(most); err != nil {
			return err
		}
		if n.Most < n.Start {
			return fmt.Errorf("%s: give the smaller size first", v)
		}
	}
	*m = n
	return nil
}

// UnmarshalYAML parses it, with the place of what is wrong.
func (m *Memory) UnmarshalYAML(node ast.Node) error { return at(node, m.Set) }

// MarshalText gives it as it is written.
func (m Memory) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText parses it; nothing is the usual one.
func (m *Memory) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*m = Memory{}
		return nil
	}
	return m.Set(string(b))
}

// at parses a scalar and has an error say where it is.
func at(node ast.Node, parse func(string) error) error {
	s, ok := node.(ast.ScalarNode)
	if !ok {
		return &yaml.SyntaxError{Message: "give one value here", Token: node.GetToken()}
	}
	if err := parse(fmt.Sprint(s.GetValue())); err != nil {
		return &yaml.SyntaxError{Message: err.Error(), Token: node.GetToken()}
	}
	return nil
}
