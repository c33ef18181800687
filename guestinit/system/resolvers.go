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
	path := r.path
	if path == "" {
		path = resolvConf
		if err := os.Mkdir("/etc", 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	var b strings.Builder
	for _, source := range slices.Sorted(maps.Keys(r.bySource)) {
		for _, s := range r.bySource[source] {
			fmt.Fprintf(&b, "nameserver %s\n", s)
		}
	}
	// In one step: a program may read it at any time.
	if err := os.WriteFile(path+".new", []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
