package sizing

import (
	"strings"
	"testing"
	"time"
)

const mib = 1 << 20

// sample is of a guest that has the memory that it is let have.
func sample(size, available uint64, at time.Duration) Sample {
	has := Size{Memory: size * mib, CPUs: 1}
	return Sample{
		Time: time.Unix(1000, 0).Add(at), Asked: has, Has: has,
		Memory: Memory{Total: size * mib * 9 / 10, Available: available * mib},
	}
}

// memoryOnly bounds a guest with one CPU.
func memoryOnly(least, most uint64) Bounds {
	return Bounds{Size{least * mib, 1, 0}, Size{most * mib, 1, 0}}
}

func TestMemory(t *testing.T) {
	b := memoryOnly(128, 1024)
	wanted := func(s Sample) Sample { s.Wanted = true; return s }
	arriving := func(s Sample, has uint64) Sample { s.Has.Memory = has * mib; return s }
	var st State
	for _, c := range []struct {
		name string
		s    Sample
		want uint64
	}{
		{"in the band", sample(256, 100, 0), 256},
		{"short", sample(256, 20, 1*time.Second), 320},
		{"short, with more on its way", arriving(sample(320, 20, 1*time.Second), 300), 320},
		{"with nothing", sample(256, 0, 2*time.Second), 512},
		{"short, at the most", sample(1024, 0, 3*time.Second), 1024},
		{"above the most", sample(2000, 0, 4*time.Second), 1024},
		{"below the least", sample(64, 30, 5*time.Second), 128},
		{"much too much, for no time", sample(512, 400, 6*time.Second), 512},
		{"much too much, for a while", sample(512, 400, 20*time.Second), 512},
		{"much too much, for long", sample(512, 400, 36*time.Second), 384},
		{"and a moment after", sample(384, 300, 37*time.Second), 384},
		{"and long after", sample(384, 300, 67*time.Second), 288},
		{"a moment after, and others wait", wanted(sample(288, 220, 71*time.Second)), 216},
		{"and others wait", wanted(sample(216, 180, 73*time.Second)), 216},
		{"at the least", sample(128, 100, 200*time.Second), 128},
		{"near the least", sample(140, 120, 300*time.Second), 128},
		{"says nothing", Sample{Time: time.Unix(2400, 0), Asked: Size{Memory: 256 * mib, CPUs: 1}, Has: Size{Memory: 256 * mib, CPUs: 1}}, 256},
		{"says nonsense", Sample{Time: time.Unix(2401, 0), Asked: Size{Memory: 256 * mib, CPUs: 1}, Has: Size{Memory: 256 * mib, CPUs: 1}, Memory: Memory{Total: 1 << 63, Available: 1<<64 - 1}}, 192},
	} {
		var o Order
		st, o = Next(st, c.s, b)
		if got := o.Memory / mib; got != c.want || (o.Why != "") != (o.Memory != c.s.Asked.Memory) {
			t.Errorf("%s: %d MiB, want %d, because %q", c.name, got, c.want, o.Why)
		}
	}
}

// A guest that reads keeps what is available of its memory, unless others wait for it.
func TestReading(t *testing.T) {
	const rate = 256 * mib / reads // that is too little to count
	for name, c := range map[string]struct {
		read   uint64 // bytes a second
		wanted bool
		less   bool
	}{
		"not":                      {0, false, true},
		"hardly":                   {rate, false, true},
		"much":                     {2 * rate, false, false},
		"much, and others wait":    {2 * rate, true, true},
		"a number that went wrong": {1<<64 - 1, false, true},
	} {
		b := memoryOnly(128, 1024)
		var st State
		s, moved := sample(256, 200, 0), false
		s.Wanted = c.wanted
		s.Read = 1 << 40 // from before we looked
		for range 2 * int(Calm/time.Second) {
			var o Order
			st, o = Next(st, s, b)
			moved = moved || o.Memory < 256*mib
			s.Time, s.Read = s.Time.Add(time.Second), s.Read+c.read
		}
		if moved != c.less {
			t.Errorf("%s: memory was taken: %v, want %v", name, moved, c.less)
		}
	}
}

// A guest whose programs wait for memory is short before it says so.
func TestWaitsForMemory(t *testing.T) {
	b := memoryOnly(0, 1024)
	quiet := sample(256, 40, 0)
	quiet.Memory.Stalls, quiet.Memory.Waited = 100, time.Hour // from before we looked
	for name, press := range map[string]func(*Sample){
		"stalls":  func(s *Sample) { s.Memory.Stalls++ },
		"waits":   func(s *Sample) { s.Memory.Waited += 110 * time.Millisecond },
		"pressed": func(s *Sample) { s.Pressed = true },
	} {
		st, o := Next(State{}, quiet, b)
		if o.Memory != quiet.Asked.Memory {
			t.Errorf("%s: %d MiB at first", name, o.Memory/mib)
		}
		s := quiet
		s.Time = s.Time.Add(time.Second)
		press(&s)
		if st, o = Next(st, s, b); o.Memory != 320*mib || !strings.Contains(o.Why, "40 MiB of 230 MiB") {
			t.Errorf("%s: %d MiB, because %q", name, o.Memory/mib, o.Why)
		}
		s.Time, s.Pressed = s.Time.Add(time.Second), false
		if _, o = Next(st, s, b); o.Memory != s.Asked.Memory {
			t.Errorf("%s: %d MiB without a further one", name, o.Memory/mib)
		}
		rich := s
		press(&rich)
		rich.Memory.Available = 100 * mib
		if _, o = Next(st, rich, b); o.Memory != s.Asked.Memory {
			t.Errorf("%s: %d MiB, of which much is available", name, o.Memory/mib)
		}
	}
}

// A guest of greater priority whose vCPUs wait for CPUs of the host gets more of them
// until it has not waited for a while.
func TestWeight(t *testing.T) {
	b := Bounds{Size{256 * mib, 1, 100}, Size{256 * mib, 1, Boosted(100)}}
	var st State
	s := sample(256, 100, 0)
	s.Asked.Weight = 100
	for i, c := range []struct {
		seconds float64
		delayed float64 // of that time
		senior  bool
		want    int
	}{
		{1, 0, true, 100}, {1, 0.9, false, 100}, {1, 0.1, true, 100}, {1, 0.9, true, 400},
		{20, 0, true, 400}, {1, 0.5, true, 400}, {1, 0, true, 400}, {29, 0, true, 400}, {2, 0, true, 100}, {100, 0, true, 100},
	} {
		past := time.Duration(c.seconds * float64(time.Second))
		s.Time, s.Senior = s.Time.Add(past), c.senior
		s.CPU.Delayed += time.Duration(c.delayed * float64(past))
		var o Order
		st, o = Next(st, s, b)
		if o.Weight != c.want || (o.Why != "") != (o.Weight != s.Asked.Weight) {
			t.Errorf("%d: weight %d, want %d, because %q", i, o.Weight, c.want, o.Why)
		}
		s.Asked.Weight = o.Weight
	}
	if Boosted(9000) != 10000 {
		t.Error("more than the kernel takes")
	}
}

func TestCPUs(t *testing.T) {
	b := Bounds{Size{256 * mib, 1, 0}, Size{256 * mib, 3, 0}}
	var st State
	s := sample(256, 100, 0)
	for i, c := range []struct {
		seconds      float64 // since the last sample
		used, waited float64 // of that time, in CPUs
		has, want    int
	}{
		{1, 0, 0, 1, 1},         // the first tells nothing
		{1, 0.5, 0.5, 1, 1},     // half busy
		{1, 1, 0.1, 1, 1},       // one program that computes
		{0.01, 0.01, 1, 1, 1},   // too short to tell
		{1, 0.95, 0.9, 1, 2},    // two
		{1, 1, 1, 1, 2},         // the second is on its way
		{1, 1.9, 0.9, 2, 3},     //
		{1, 3, 1, 3, 3},         // at the most
		{1, 0, 1, 3, 3},         // only says that it needs some
		{29, 0.9, 0, 3, 3},      // less than two need, not for long
		{2, 0.9, 0, 3, 2},       //
		{20, 0.6, 0, 2, 2},      // one and a bit
		{40, 0.6, 0, 2, 2},      //
		{1, 0.1, 0, 2, 2},       //
		{31, 0.1, 0, 2, 1},      //
		{100, 0.1, 0, 1, 1},     // at the least
		{1, -1000, -1000, 1, 1}, // nonsense
	} {
		past := time.Duration(c.seconds * float64(time.Second))
		s.Time = s.Time.Add(past)
		s.CPU.Used += time.Duration(c.used * float64(past))
		s.CPU.Waited += time.Duration(c.waited * float64(past))
		s.Has.CPUs = c.has
		var o Order
		st, o = Next(st, s, b)
		if o.CPUs != c.want || (o.Why != "") != (o.CPUs != s.Asked.CPUs) {
			t.Errorf("%d: %d CPUs, want %d, because %q", i, o.CPUs, c.want, o.Why)
		}
		s.Asked.CPUs = o.CPUs
	}
}
