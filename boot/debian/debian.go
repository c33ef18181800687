// Package debian fetches Debian packages with the machine's own apt
// configuration, without root and without touching the machine's state.
package debian

import (
	"context"
	"errors"
)

// Backports is the Suite of newer packages for the machine's release.
const Backports = "-backports"

// A Request names packages to fetch.
type Request struct {
	Packages []string // names, without versions
	Arch     string   // GOARCH name, foreign ones included; empty for this machine's
	// Suite is empty for the machine's configured suites, or one more suite of the
	// same mirror that wins over them: a whole name, or a suffix such as
	// Backports for the machine's release.
	Suite string
	// StateDir keeps package lists between calls.
	StateDir string
	// Dir receives the .deb files. A file that is there and whole is not fetched
	// again; one that was interrupted is not there.
	Dir string
	// Progress is called from time to time when not nil.
	Progress func(Progress)
}

// Progress is how far a download is.
type Progress struct {
	What  string // "package lists" or a package's name
	Done  int64  // bytes
	Total int64  // bytes; 0 when not known
}

// Fetch downloads packages and returns the paths of the .deb files in the order
// of the request.
func Fetch(ctx context.Context, req Request) ([]string, error) { return nil, errors.ErrUnsupported }

// Unpack writes the files of the package at path that keep accepts into dir:
// regular files, directories and symbolic links, never outside dir. keep gets
// slash-separated names without a leading "./"; nil accepts all.
func Unpack(path, dir string, keep func(name string) bool) error { return errors.ErrUnsupported }
