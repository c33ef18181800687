package store

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"warder/secmon/event"
)

func numbered(n int) *event.Event {
	e := &event.Event{
		Time: int64(n) * 1e9, Seq: uint64(n), VM: fmt.Sprint("vm", n%3), Kind: event.Task, Action: event.Ran,
		Process: event.Process{Args: strings.Repeat("x", n%50) + "\n\x00"},
	}
	if n%5 == 0 {
		e.Kind, e.Action, e.Message = event.Lifecycle, "", "up"
	}
	return e
}

func open(t testing.TB, dir string, l Limits) *Store {
	t.Helper()
	s, err := Open(dir, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func appendTo(t testing.TB, s *Store, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		if err := s.Append(numbered(n)); err != nil {
			t.Fatal(err)
		}
	}
}

// seqs are the numbers of the events that a query gives.
func seqs(t testing.TB, s *Store, q Query) []uint64 {
	t.Helper()
	var out []uint64
	for e, err := range s.Query(q) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e.Seq)
	}
	return out
}

func wanted(from, to int, q Query) (out []uint64) {
	for n := from; n < to; n++ {
		if q.Has(numbered(n)) {
			out = append(out, uint64(n))
		}
	}
	return out
}

func TestQuery(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Limits{Segment: 4000})
	appendTo(t, s, 1, 200)
	queries := []Query{
		{}, {From: 50e9}, {To: 50e9}, {From: 50e9, To: 60e9}, {VMs: []string{"vm1"}}, {VMs: []string{"vm1", "vm2"}, From: 100e9},
		{Kinds: []event.Kind{event.Lifecycle}}, {Kinds: []event.Kind{event.Alert}}, {VMs: []string{"nobody"}}, {From: 1e18},
	}
	check := func() {
		t.Helper()
		for _, q := range queries {
			if d := cmp.Diff(wanted(1, 200, q), seqs(t, s, q)); d != "" {
				t.Errorf("%+v (-want +got):\n%s", q, d)
			}
		}
	}
	check()
	for e, err := range s.Query(Query{}) {
		if err != nil || e.Seq != 1 {
			t.Fatalf("first event %d, %v", e.Seq, err)
		}
		break // must not hang, nor go on
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// Another process reads it meanwhile.
	s.Sync()
	for _, q := range queries {
		var got []uint64
		for e, err := range Read(dir, q) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Seq)
		}
		if d := cmp.Diff(wanted(1, 200, q), got); d != "" {
			t.Errorf("read %+v (-want +got):\n%s", q, d)
		}
	}
	names, _ := filepath.Glob(dir + "/*" + segmentSuffix)
	if len(names) < 3 {
		t.Fatalf("%d segments", len(names))
	}
	s = open(t, dir, Limits{Segment: 4000})
	check()
	appendTo(t, s, 200, 210)
	if d := cmp.Diff(wanted(1, 210, Query{}), seqs(t, s, Query{})); d != "" {
		t.Errorf("after more (-want +got):\n%s", d)
	}
	// What an event says is kept whole.
	for e, err := range s.Query(Query{From: 43e9, To: 44e9}) {
		if d := cmp.Diff(*numbered(43), e); err != nil || d != "" {
			t.Errorf("%v (-want +got):\n%s", err, d)
		}
	}
}

// A crash at any byte: what was acknowledged is there, what was not is there
// whole or not at all.
func TestCrashAtAnyByte(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Limits{Segment: 100000})
	appendTo(t, s, 1, 40)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	size := func() (string, int64) {
		names, _ := filepath.Glob(dir + "/*" + segmentSuffix)
		st, err := os.Stat(names[len(names)-1])
		if err != nil {
			t.Fatal(err)
		}
		return names[len(names)-1], st.Size()
	}
	name, acknowledged := size()
	appendTo(t, s, 40, 42)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, all := size()
	if again != name || all <= acknowledged {
		t.Fatalf("the last events are in %s, %d bytes, those before in %s, %d", again, all, name, acknowledged)
	}
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for at := acknowledged; at <= all; at++ {
		if err := os.WriteFile(filepath.Join(crashed, filepath.Base(name)), whole[:at], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(crashed, Limits{Segment: 100000})
		if err != nil {
			t.Fatalf("crash at byte %d: %v", at, err)
		}
		got := seqs(t, s, Query{})
		if len(got) < 39 || !cmp.Equal(got, wanted(1, 1+len(got), Query{})) {
			t.Fatalf("crash at byte %d: %v", at, got)
		}
		appendTo(t, s, 100, 101)
		if got := seqs(t, s, Query{From: 100e9}); len(got) != 1 {
			t.Fatalf("crash at byte %d: appended, and got %v", at, got)
		}
		s.Close()
	}
}

// Summaries are only made for speed: without, or of another size, they are made
// again.
func TestLostSummaries(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Limits{Segment: 2000})
	appendTo(t, s, 1, 60)
	s.Close()
	names, _ := filepath.Glob(dir + "/*" + summarySuffix)
	if len(names) < 2 {
		t.Fatalf("%d summaries", len(names))
	}
	os.Remove(names[0])
	os.WriteFile(names[1], []byte(`{"events": 3`), 0o600)
	s = open(t, dir, Limits{Segment: 2000})
	if d := cmp.Diff(wanted(1, 60, Query{VMs: []string{"vm2"}}), seqs(t, s, Query{VMs: []string{"vm2"}})); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestBounds(t *testing.T) {
	dir := t.TempDir()
	limits := Limits{Segment: 2000, Total: 10000}
	s := open(t, dir, limits)
	appendTo(t, s, 1, 300)
	st := s.Stats()
	var bytes int64
	names, _ := filepath.Glob(dir + "/*" + segmentSuffix)
	for _, n := range names {
		fi, err := os.Stat(n)
		if err != nil {
			t.Fatal(err)
		}
		bytes += fi.Size()
	}
	got := seqs(t, s, Query{})
	if st.Bytes > limits.Total || bytes > limits.Total || st.Deleted == 0 || int(st.Deleted)+len(got) != 299 || got[len(got)-1] != 299 {
		t.Errorf("%d bytes on disk, %d events of %d, %+v", bytes, len(got), 299, st)
	}
	s = open(t, t.TempDir(), Limits{Segment: 1000, Age: 60e9})
	appendTo(t, s, 1, 300)
	if got := seqs(t, s, Query{}); got[0] < 200 || got[0] > 240 {
		t.Errorf("the oldest event is %d of 299, a minute is kept", got[0])
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Limits{})
	if _, err := Open(dir, Limits{}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
	s.Close()
	if err := s.Append(numbered(1)); err == nil {
		t.Error("appended to a closed store")
	}
	open(t, dir, Limits{})
}

// A full disk loses what did not fit, says so, and nothing else.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Limits{})
	appendTo(t, s, 1, 10)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(s.segments[0].path)
	if err != nil {
		t.Fatal(err)
	}
	full := unix.Rlimit{Cur: uint64(st.Size()) + 100, Max: old.Max}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &full); err != nil {
		t.Fatal(err)
	}
	appendTo(t, s, 10, 20) // into the buffer
	failed := s.Sync()
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if failed == nil {
		t.Fatal("written beyond the limit")
	}
	if err := s.Sync(); err == nil || !strings.Contains(err.Error(), "events were lost") {
		t.Errorf("the loss is not told of: %v", err)
	}
	appendTo(t, s, 30, 40)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	got := seqs(t, s, Query{})
	if !cmp.Equal(got[:9], wanted(1, 10, Query{})) || !cmp.Equal(got[len(got)-10:], wanted(30, 40, Query{})) {
		t.Errorf("events %v", got)
	}
}

// Whatever is in a segment, opening and reading it ends.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("{}\nhalf a li"), []byte(`{"events":1}`))
	f.Add([]byte(""), []byte(""))
	f.Fuzz(func(t *testing.T, segment, summary []byte) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{"00000000000000000001.jsonl": segment, "00000000000000000001.json": summary, "00000000000000000002.jsonl": segment} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(dir, Limits{})
		if err != nil {
			return
		}
		defer s.Close()
		for range s.Query(Query{}) {
		}
		if err := s.Append(numbered(1)); err != nil {
			t.Fatal(err)
		}
		if got := last(s); got != 1 {
			t.Fatalf("the last event is %d", got)
		}
	})
}

func last(s *Store) (seq uint64) {
	for e, err := range s.Query(Query{}) {
		if err == nil {
			seq = e.Seq
		}
	}
	return seq
}

func BenchmarkAppend(b *testing.B) {
	s := open(b, b.TempDir(), Limits{})
	e := numbered(7)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Append(e); err != nil {
			b.Fatal(err)
		}
	}
}
