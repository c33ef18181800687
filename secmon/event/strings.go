package event

import (
	"hash/maphash"
	"sync/atomic"
)

// Strings has equal strings of many events be one: programs, directories, users
// come again and again. It is a table in which one string takes the place of
// another, so that its size does not depend on what guests say. It is safe for
// concurrent use.
type Strings struct {
	seed  maphash.Seed
	slots [4096]atomic.Pointer[string]
}

// maxShared is how long a string may be that is shared, in bytes.
const maxShared = 512

// NewStrings makes an empty table.
func NewStrings() *Strings { return &Strings{seed: maphash.MakeSeed()} }

// Share puts strings in an event in the place of which there are equal ones.
func (t *Strings) Share(e *Event) {
	p := &e.Process
	for _, s := range [...]*string{&p.Name, &p.Exe, &p.Dir, &p.User, &p.ParentExe, &p.ParentArgs} {
		*s = t.one(*s)
	}
}

func (t *Strings) one(s string) string {
	if s == "" || len(s) > maxShared {
		return s
	}
	slot := &t.slots[maphash.String(t.seed, s)%uint64(len(t.slots))]
	if known := slot.Load(); known != nil && *known == s {
		return *known
	}
	kept := s // so that s itself need not be on the heap
	slot.Store(&kept)
	return s
}
