// Package testleak finds what a test leaves behind in its process: descriptors,
// goroutines, threads, mappings.
//
//	before := testleak.Take(t)
//	... makes and ends many things ...
//	before.Compare(t)
//
// What the Go runtime keeps for later is no leak: do everything once before
// Take.
package testleak

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A Snapshot is what the process holds, by kind and name, with how often.
type Snapshot struct {
	held    map[string]int
	threads int
	kib     int // of address space
}

const (
	// settle is how long what has been told to end may take to do so: threads
	// and goroutines end after the word that they have.
	settle = 20 * time.Second
	look   = 10 * time.Millisecond
	// spareThreads is how many more threads the Go runtime may have come to need.
	spareThreads = 8
	// spareKiB is how much more address space it may have.
	spareKiB = 512 << 10
)

// Take looks at what there is.
func Take(t testing.TB) *Snapshot {
	t.Helper()
	s := &Snapshot{held: make(map[string]int)}
	s.mappings(t)
	s.goroutines(t)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	s.threads = len(tasks)
	s.files(t) // last: the runtime opens its poller at the first file
	return s
}

// Compare fails the test for all that is there and was not at s.
func (s *Snapshot) Compare(t testing.TB) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(settle); ; time.Sleep(look) {
		if left = Take(t).beyond(s); len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
}

// beyond lists what s has more than before.
func (s *Snapshot) beyond(before *Snapshot) (more []string) {
	for _, what := range slices.Sorted(maps.Keys(s.held)) {
		if n := s.held[what] - before.held[what]; n > 0 {
			more = append(more, fmt.Sprintf("%d more: %s", n, what))
		}
	}
	if n := s.threads - before.threads; n > spareThreads {
		more = append(more, fmt.Sprintf("%d more threads: %d, were %d", n, s.threads, before.threads))
	}
	if n := s.kib - before.kib; n > spareKiB {
		more = append(more, fmt.Sprintf("%d MiB more of address space", n>>10))
	}
	return more
}

// files counts descriptors by what they lead to.
func (s *Snapshot) files(t testing.TB) {
	t.Helper()
	const dir = "/proc/self/fd"
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		target, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if err != nil {
			continue // the one that ReadDir had
		}
		s.held["descriptor of "+unnumbered(target)]++
	}
}

// mappings counts those that have a name. Others are the Go runtime's; for them
// stands the size of all.
func (s *Snapshot) mappings(t testing.TB) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) >= 6 && (strings.HasPrefix(f[5], "/") || strings.HasPrefix(f[5], "anon_inode:")) {
			s.held["mapping of "+unnumbered(strings.Join(f[5:], " "))]++
		}
	}
	b, err = os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmSize:" {
			if s.kib, err = strconv.Atoi(f[1]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// goroutines counts them by their stacks.
func (s *Snapshot) goroutines(t testing.TB) {
	t.Helper()
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		t.Fatal(err)
	}
	_, groups, _ := strings.Cut(b.String(), "\n") // the first line has the total
	for group := range strings.SplitSeq(groups, "\n\n") {
		head, stack, ok := strings.Cut(strings.TrimSpace(group), "\n")
		count, _, found := strings.Cut(head, " @ ")
		if n, err := strconv.Atoi(count); ok && found && err == nil && !strings.Contains(stack, "testleak.Take") {
			s.held["goroutine at\n"+addresses.ReplaceAllString(stack, "    ")] += n
		}
	}
}

// addresses begin the lines of a stack.
var addresses = regexp.MustCompile(`(?m)^#\s+0x[0-9a-f]+\s+`)

// numbers tell apart descriptors of one kind.
var numbers = regexp.MustCompile(`[0-9]+`)

// unnumbered is the name of a file for all of its kind: a socket or pipe without
// its number.
func unnumbered(name string) string {
	if strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "/memfd:") && !strings.HasPrefix(name, "/tmp/") {
		return name
	}
	return numbers.ReplaceAllString(name, "N")
}
