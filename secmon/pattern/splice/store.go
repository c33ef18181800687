package splice

import (
	"cmp"
	"container/list"
	"path"
	"slices"

	"warder/secmon/event"
)

// Limits bound the engine's memory. What does not fit pushes out the oldest:
// within an object the part of the earliest time, between objects the one that
// was least recently contributed to. Everything pushed out is counted.
type Limits struct {
	Objects        int // objects with parts
	PartsPerObject int
	BytesPerObject int // that parts take, see part.bytes
	Bytes          int // that parts take, all objects together
}

// DefaultLimits suit a host of a few hundred VMs.
var DefaultLimits = Limits{Objects: 8192, PartsPerObject: 1024, BytesPerObject: 2 << 20, Bytes: 64 << 20}

// part is one contribution to an object. The event's payload is what is known
// of it, its size how long it is.
type part struct {
	event event.Event
}

// bytes is the memory that a part takes.
func (p *part) bytes() int { return p.event.Bytes() }

// object is a file, or another thing, that parts were contributed to.
type object struct {
	path   string // its latest name on the host; of other objects field=value
	device uint64
	inode  uint64 // 0 until known
	parts  []part // in the order of event time
	bytes  int
	seen   *list.Element
	// version counts the changes of parts; alerted has the version that each
	// rule and VM last raised an alert for.
	version uint64
	alerted map[alertKey]uint64
}

type alertKey struct {
	rule string
	vm   string
}

type inodeKey struct {
	device, inode uint64
}

// hostPath names a file on a share as the host does, so that shares of nested
// directories meet.
func hostPath(f event.File) string { return path.Join(f.Share, f.Inner) }

// store holds the objects, found by the number of their inode or, where that
// is not known, by name.
type store struct {
	limits  Limits
	byInode map[inodeKey]*object
	byPath  map[string]*object
	recent  *list.List // of *object, the most recently contributed to first
	bytes   int

	evictedObjects, evictedParts uint64
}

func newStore(l Limits) *store {
	return &store{
		limits:  Limits{max(l.Objects, 1), max(l.PartsPerObject, 1), max(l.BytesPerObject, 1), max(l.Bytes, 1)},
		byInode: make(map[inodeKey]*object),
		byPath:  make(map[string]*object),
		recent:  list.New(),
	}
}

// find gives the object of a file, nil if nothing was contributed to it.
//
// The inode decides: a file keeps it under every name. A name alone decides
// where one side's inode is not known. A name whose object has another inode
// has been given to another file.
func (s *store) find(f event.File) *object {
	named := s.byPath[hostPath(f)]
	if f.Inode == 0 {
		return named
	}
	if named != nil && named.inode == 0 {
		// A new file under this name: an object that had its inode number
		// before has been deleted.
		if old := s.byInode[inodeKey{f.Device, f.Inode}]; old != nil {
			s.drop(old)
		}
		named.inode = f.Inode
		s.byInode[inodeKey{f.Device, f.Inode}] = named
		return named
	}
	return s.byInode[inodeKey{f.Device, f.Inode}]
}

// add finds or makes the object of a file, under its name of now.
func (s *store) add(f event.File) *object {
	o := s.find(f)
	if o == nil {
		for s.recent.Len() >= s.limits.Objects {
			s.evict()
		}
		o = &object{device: f.Device, inode: f.Inode}
		o.seen = s.recent.PushFront(o)
		if f.Inode != 0 {
			s.byInode[inodeKey{f.Device, f.Inode}] = o
		}
	} else {
		s.recent.MoveToFront(o.seen)
	}
	s.rename(o, hostPath(f))
	return o
}

// named finds or makes the object of a name that is no file's.
func (s *store) named(key string) *object {
	o := s.byPath[key]
	if o == nil {
		for s.recent.Len() >= s.limits.Objects {
			s.evict()
		}
		o = &object{path: key}
		o.seen = s.recent.PushFront(o)
		s.byPath[key] = o
	} else {
		s.recent.MoveToFront(o.seen)
	}
	return o
}

func (s *store) rename(o *object, name string) {
	if s.byPath[o.path] == o {
		delete(s.byPath, o.path)
	}
	o.path = name
	if other := s.byPath[name]; other != nil && other.inode == 0 {
		// Nothing else leads to that one any more.
		s.drop(other)
	}
	s.byPath[name] = o
}

// unname takes a name off an object, which is about to be another file's. One
// that is known by nothing else is forgotten.
func (s *store) unname(f event.File) {
	name := hostPath(f)
	o := s.byPath[name]
	switch {
	case o == nil:
	case o.inode == 0:
		s.drop(o)
	default:
		delete(s.byPath, name)
	}
}

// drop forgets an object.
func (s *store) drop(o *object) {
	if s.byInode[inodeKey{o.device, o.inode}] == o {
		delete(s.byInode, inodeKey{o.device, o.inode})
	}
	if s.byPath[o.path] == o {
		delete(s.byPath, o.path)
	}
	s.recent.Remove(o.seen)
	s.bytes -= o.bytes
}

func (s *store) evict() {
	o := s.recent.Back().Value.(*object)
	s.evictedObjects++
	s.evictedParts += uint64(len(o.parts))
	s.drop(o)
}

// contribute adds a part to an object in the order of event time.
func (s *store) contribute(o *object, e event.Event) {
	i, _ := slices.BinarySearchFunc(o.parts, e, func(p part, e event.Event) int { return order(p.event, e) })
	o.parts = slices.Insert(o.parts, i, part{e})
	o.version++
	n := o.parts[i].bytes()
	o.bytes += n
	s.bytes += n
	drop := 0
	for drop < len(o.parts) && (len(o.parts)-drop > s.limits.PartsPerObject || o.bytes > s.limits.BytesPerObject) {
		s.forget(o, drop)
		s.evictedParts++
		drop++
	}
	o.parts = slices.Delete(o.parts, 0, drop)
	for s.bytes > s.limits.Bytes {
		s.evict()
	}
}

// forget takes a part's bytes off the accounts.
func (s *store) forget(o *object, i int) {
	n := o.parts[i].bytes()
	o.bytes -= n
	s.bytes -= n
}

// expire drops the parts of before a time, which no rule looks at any more.
func (s *store) expire(o *object, before int64) {
	n := 0
	for n < len(o.parts) && o.parts[n].event.Time < before {
		s.forget(o, n)
		n++
	}
	o.parts = slices.Delete(o.parts, 0, n)
}

// order is by time, then, so that it is total, by VM and number.
func order(a, b event.Event) int {
	return cmp.Or(cmp.Compare(a.Time, b.Time), cmp.Compare(a.VM, b.VM), cmp.Compare(a.Seq, b.Seq))
}
