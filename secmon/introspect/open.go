package introspect

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"warder/boot"
)

// Open reads what a kernel's file says, of any form that [boot.Open] knows. A file
// that has been read is not read again while it stays as it is, and two files of
// one build are one kernel.
//
// A kernel without types is opened all the same: what needs types then fails
// with an error that wraps [ErrNoBTF].
func Open(path string) (*Kernel, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("kernel: %w", err)
	}
	key := fileKey{path, st.Size(), st.ModTime()}
	opening.Lock() // several VMs that start at once want the same one
	defer opening.Unlock()
	opened.Lock()
	k := opened.byFile[key]
	opened.Unlock()
	if k != nil {
		return k, nil
	}
	if k, err = open(path); err != nil {
		return nil, err
	}
	opened.Lock()
	defer opened.Unlock()
	if opened.byFile == nil || len(opened.byFile) >= maxOpened {
		opened.byFile, opened.byID = make(map[fileKey]*Kernel), make(map[string]*Kernel)
	}
	opened.byFile[key] = k
	if k.buildID != "" {
		opened.byID[k.buildID] = k
	}
	return k, nil
}

// OpenWhole is Open for those who cannot do without types.
func OpenWhole(path string) (*Kernel, error) {
	k, err := Open(path)
	if err == nil && k.types == nil {
		return nil, fmt.Errorf("kernel %s: %w", path, k.fields.none)
	}
	return k, err
}

type fileKey struct {
	path string
	size int64
	time time.Time
}

// opened are the kernels of files that this process has read.
var opened struct {
	sync.Mutex
	byFile map[fileKey]*Kernel
	byID   map[string]*Kernel // by build id
}

const maxOpened = 64

var opening sync.Mutex

func open(path string) (*Kernel, error) {
	cache, err := boot.CacheDir()
	if err != nil {
		return nil, err
	}
	b, err := boot.Open(path, filepath.Join(cache, "vmlinux"))
	if err != nil {
		return nil, err
	}
	im := bootImage(b)
	if k := known(im); k != nil {
		return k, nil
	}
	k, err := load(im)
	if err != nil {
		return nil, fmt.Errorf("kernel %s: %w", path, err)
	}
	return k, nil
}
