package system

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

const resolvConf = "/etc/resolv.conf"

// Resolvers are the name servers that the guest asks, from several sources: the
// host, and what its interfaces learn. The zero value is none, and leaves what the
// guest has.
type Resolvers struct {
	path string // resolvConf when empty

	mu       sync.Mutex
	within   func(func()) // nil for one place
	bySource map[string][]string
}

// Set says what a source knows, in place of what it knew before. Sources are asked in
// the order of their names.
func (r *Resolvers) Set(source string, servers []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Equal(r.bySource[source], servers) {
		return nil
	}
	if r.bySource == nil {
		r.bySource = make(map[string][]string)
	}
	r.bySource[source] = servers
	var b strings.Builder
	for _, source := range slices.Sorted(maps.Keys(r.bySource)) {
		for _, s := range r.bySource[source] {
			fmt.Fprintf(&b, "nameserver %s\n", s)
		}
	}
	err := r.write(b.String())
	if r.within != nil {
		r.within(func() { err = errors.Join(err, r.write(b.String())) })
	}
	return err
}

// AlsoWithin has what is known from now on written in another root file system too,
// by a function that do runs there.
func (r *Resolvers) AlsoWithin(do func(func())) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.within = do
}

// write writes the file, in one step: a program may read it at any time.
func (r *Resolvers) write(text string) error {
	path := r.path
	if path == "" {
		path = resolvConf
		if err := os.Mkdir("/etc", 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
