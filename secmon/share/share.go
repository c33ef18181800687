package share

import (
	"container/list"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"warder/devices/virtio/fs"
	"warder/secmon/event"
)

// Bounds of a monitor.
const (
	// DefaultFiles is how many files are known at a time; each takes about 200 bytes, and
	// 80 for each range of it.
	DefaultFiles = 16384
	// maxRanges is how many ranges of one file are told apart.
	maxRanges = 256
)

// Config is a monitor.
type Config struct {
	// Sink takes an event, on the goroutine that serves the guest, and says whether the
	// access that it is about is to be refused.
	Sink func(event.Event) (block bool)
	// Content says how many of the first bytes of each write, and of a file that is read, rules
	// look at; 0 for none, and neither is then told but as messages. It is asked
	// at each access.
	Content func() int
	// Message says how many bytes of a message rules look at. Default: none.
	Message func() int
	// Files is how many files are known at a time. Default: DefaultFiles.
	Files int
}

// Monitor sees the shares of several VMs. It is safe for concurrent use.
type Monitor struct {
	cfg Config

	mu     sync.Mutex
	files  map[key]*file
	recent *list.List       // of *file, the last written first
	vms    map[string]int32 // numbers of VMs, by name
	names  []string
	stats  Stats
	told   uint64 // of what had to go
}

// Stats are the counts of a monitor.
type Stats struct {
	Reads, Writes uint64
	Messages      uint64
	Files         int    // with something that somebody has written
	Evicted       uint64 // ranges of files that had to go: a message of them is not told
}

// key identifies a file on the host.
type key struct{ device, inode uint64 }

// file is one that a VM has written to.
type file struct {
	key    key
	ranges []span // in their order, without overlap
	seen   *list.Element
}

// New makes a monitor.
func New(cfg Config) *Monitor {
	if cfg.Files == 0 {
		cfg.Files = DefaultFiles
	}
	none := func() int { return 0 }
	if cfg.Content == nil {
		cfg.Content = none
	}
	if cfg.Message == nil {
		cfg.Message = none
	}
	return &Monitor{cfg: cfg, files: make(map[key]*file), recent: list.New(), vms: make(map[string]int32)}
}

// Stats gives the counts so far.
func (m *Monitor) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	s.Files = len(m.files)
	return s
}

// Run tells what had to go, until ctx ends.
func (m *Monitor) Run(ctx context.Context) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		m.tellLost()
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

func (m *Monitor) tellLost() {
	m.mu.Lock()
	lost := m.stats.Evicted - m.told
	m.told = m.stats.Evicted
	m.mu.Unlock()
	if lost > 0 {
		m.cfg.Sink(event.Event{
			Time: time.Now().UnixNano(), Kind: event.Loss, Action: "shares", Lost: lost,
			Message: fmt.Sprintf("%d ranges of files on shares are forgotten, as there were too many: who reads them is not told", lost),
		})
	}
}

// watcher is one directory of one VM.
type watcher struct {
	m   *Monitor
	vm  string
	n   int32
	dir string
}

// Watch is what the device of a VM reports to that serves a directory.
func (m *Monitor) Watch(vm, dir string) (fs.Watcher, error) {
	// As the traps name it: two ways to one directory give one name.
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	n, known := m.vms[vm]
	if !known {
		n = int32(len(m.names))
		m.vms[vm] = n
		m.names = append(m.names, vm)
	}
	return &watcher{m, vm, n, dir}, nil
}

// Content implements [fs.Watcher].
func (w *watcher) Content() int { return w.m.cfg.Content() }

// Access implements [fs.Watcher].
func (w *watcher) Access(a *fs.Access) error {
	now := time.Now().UnixNano()
	var heard []message
	w.m.mu.Lock()
	switch a.Kind {
	case fs.Read:
		if !a.Done {
			w.m.stats.Reads++
		}
		heard = w.m.read(w.n, a)
		w.m.stats.Messages += uint64(len(heard))
	case fs.Write:
		w.m.stats.Writes++
		w.m.write(w.n, a, now)
	case fs.Truncate:
		if f := w.m.files[key{a.Device, a.Inode}]; f != nil {
			f.cut(a.Size)
		}
	case fs.Create: // with a number that another file may have had
		w.m.forget(key{a.Device, a.Inode})
	}
	w.m.mu.Unlock()
	refused := false
	for _, h := range heard {
		refused = w.m.cfg.Sink(w.message(a, h, now)) || refused
	}
	if n := w.m.cfg.Content(); n > 0 && !a.Done {
		refused = w.m.cfg.Sink(w.act(a, n, now)) || refused
	}
	if refused {
		return unix.EPERM
	}
	return nil
}

// write notes what a VM writes. The monitor is locked.
func (m *Monitor) write(vm int32, a *fs.Access, now int64) {
	if a.Size <= 0 {
		return
	}
	k := key{a.Device, a.Inode}
	f := m.files[k]
	if f == nil {
		for len(m.files) >= m.cfg.Files {
			m.stats.Evicted += uint64(len(m.recent.Back().Value.(*file).ranges))
			m.forget(m.recent.Back().Value.(*file).key)
		}
		f = &file{key: k}
		f.seen = m.recent.PushFront(f)
		m.files[k] = f
	} else {
		m.recent.MoveToFront(f.seen)
	}
	f.put(span{from: a.Offset, to: a.Offset + a.Size, vm: vm, at: now, pid: a.PID, uid: a.UID})
	for len(f.ranges) > maxRanges {
		m.stats.Evicted++
		f.dropOldest()
	}
}

// forget drops a file. The monitor is locked.
func (m *Monitor) forget(k key) {
	if f := m.files[k]; f != nil {
		m.recent.Remove(f.seen)
		delete(m.files, k)
	}
}

// message is a range that one VM has written and another is about to read.
type message struct {
	span
	writer string
}

// read finds what others have written of a range and this VM has not read. The
// monitor is locked.
func (m *Monitor) read(vm int32, a *fs.Access) (heard []message) {
	f := m.files[key{a.Device, a.Inode}]
	if f == nil {
		return nil
	}
	for _, s := range f.hear(vm, a.Offset, a.Offset+a.Size) {
		heard = append(heard, message{s, m.names[s.vm]})
	}
	return slices.Clip(heard)
}
