package request

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// HTTP says which requests of HTTP/1 are allowed. What is empty does not matter.
type HTTP struct {
	Hosts   []string // names that are asked for, *.example.org for all below
	Methods []string
	Paths   []string // /exactly/this, or /below/*
}

// DNS says which names may be asked for.
type DNS struct {
	Names []string // *.example.org for all below
}

// Validate reports what is wrong with a rule.
func (r *HTTP) Validate() error {
	for _, h := range r.Hosts {
		if err := validName(h); err != nil {
			return fmt.Errorf("host %w", err)
		}
	}
	for _, m := range r.Methods {
		if m == "" || strings.ContainsFunc(m, func(c rune) bool { return c < 'A' || c > 'Z' }) {
			return fmt.Errorf("method %q: give one in capital letters, as GET", m)
		}
	}
	for _, p := range r.Paths {
		if bare := strings.TrimSuffix(p, "*"); !normal(bare) || strings.Contains(bare, "*") {
			return fmt.Errorf("path %q: give one that begins with /, as /v1/users or /v1/*", p)
		}
	}
	return nil
}

// Validate reports what is wrong with a rule.
func (r *DNS) Validate() error {
	if len(r.Names) == 0 {
		return errors.New("names: give those that may be asked for")
	}
	for _, n := range r.Names {
		if err := validName(n); err != nil {
			return fmt.Errorf("name %w", err)
		}
	}
	return nil
}

func validName(n string) error {
	if bare := strings.TrimPrefix(n, "*."); strings.Trim(bare, ".") == "" || strings.ContainsAny(bare, "*/: \t") {
		return fmt.Errorf("%q: give one as example.org, or *.example.org", n)
	}
	return nil
}

// Allows reports whether a request is allowed.
func (r *HTTP) Allows(h *Head) bool {
	return (len(r.Hosts) == 0 || slices.ContainsFunc(r.Hosts, func(p string) bool { return named(p, h.Host) })) &&
		(len(r.Methods) == 0 || slices.Contains(r.Methods, h.Method)) &&
		(len(r.Paths) == 0 || slices.ContainsFunc(r.Paths, func(p string) bool { return below(p, h.Path) }))
}

// Allows reports whether a name may be asked for.
func (r *DNS) Allows(name string) bool {
	return slices.ContainsFunc(r.Names, func(p string) bool { return named(p, name) })
}

// named reports whether a name is one that a pattern is for.
func named(pattern, name string) bool {
	pattern, name = strings.ToLower(strings.TrimSuffix(pattern, ".")), strings.ToLower(strings.TrimSuffix(name, "."))
	if end, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(name, end) && name != end
	}
	return name == pattern
}

func below(pattern, path string) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, start)
	}
	return path == pattern
}
