// Package measure tells how fast a library of rules is evaluated on this
// machine.
//
// The events are of everyday work ([Traffic]), of which a share is replaced by
// events that rules match. Everything is measured in one run, with the same
// rules evaluated one by one beside it ([detect.Plain]). What is "a core" is by the
// CPU time that was taken, and so the same on a machine that has other work.
package measure

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"warder/secmon/event"
	"warder/secmon/pattern"
	"warder/secmon/pattern/detect"
	"warder/secmon/pattern/example"
)

// Options say how much is measured.
type Options struct {
	// For is how long each measurement takes. Default: a second.
	For time.Duration
	// Workers is how many goroutines observe events in the sharded measurement.
	// Default: one a CPU.
	Workers int
}

// Result is one measurement.
type Result struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// kinds is how many different events a stream repeats.
const kinds = 4096

// shares of events that match, in percent.
var shares = []int{0, 1, 10}

// maxSeed bounds how much everyday work is tried to find what matches nothing.
const maxSeed = 64

// Library measures a library. The results are in a fixed order.
func Library(ctx context.Context, l *pattern.Library, o Options) ([]Result, error) {
	if o.For <= 0 {
		o.For = time.Second
	}
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	matching := matches(l)
	if len(matching) == 0 {
		return nil, fmt.Errorf("no event could be made that a rule matches")
	}
	m := &measurement{options: o, library: l, matching: matching}
	for _, share := range shares {
		if err := m.throughput(ctx, fmt.Sprintf("%d %% match", share), m.stream(share)); err != nil {
			return nil, err
		}
	}
	// Of which every program that is run is a match of some rule, a part of others.
	if err := m.throughput(ctx, "everyday work", Traffic(kinds, 1)); err != nil {
		return nil, err
	}
	if err := m.oneByOne(ctx); err != nil {
		return nil, err
	}
	return m.results, m.latency(ctx)
}

// matches makes events that rules of the library match.
func matches(l *pattern.Library) (events []event.Event) {
	for _, r := range l.Rules {
		if r.Detection == nil {
			continue
		}
		if e, err := example.Of(r.Rule); err == nil {
			events = append(events, *e)
		}
	}
	return events
}

type measurement struct {
	options  Options
	library  *pattern.Library
	matching []event.Event
	results  []Result
}

func (m *measurement) add(unit string, value float64, format string, args ...any) {
	m.results = append(m.results, Result{fmt.Sprintf(format, args...), value, unit})
}

// stream is everyday work with so many percent of matching events. Everyday
// events that happen to match are left out.
func (m *measurement) stream(percent int) []event.Event {
	quiet := make([]event.Event, 0, kinds)
	for seed := uint64(1); len(quiet) < kinds && seed <= maxSeed; seed++ {
		for _, ev := range Traffic(kinds, seed) {
			if len(quiet) < kinds && !m.library.Matches(&ev) {
				quiet = append(quiet, ev)
			}
		}
	}
	rng := rand.New(rand.NewPCG(2, 0))
	for i := range quiet {
		if rng.IntN(100) < percent {
			vm := quiet[i].VM
			quiet[i] = m.matching[rng.IntN(len(m.matching))]
			quiet[i].VM = vm
		}
	}
	return quiet
}

// throughput measures events a second on one core and on several.
func (m *measurement) throughput(ctx context.Context, name string, events []event.Event) error {
	for _, workers := range []int{1, m.options.Workers} {
		e, err := pattern.New(m.library, pattern.DefaultLimits)
		if err != nil {
			return err
		}
		u := m.observe(ctx, e, events, workers)
		if err := ctx.Err(); err != nil {
			return err
		}
		n := float64(u.events)
		if workers == 1 {
			m.add("events/s", n/u.cpu.Seconds(), "%s, a core", name)
			m.add("B/event", float64(u.bytes)/n, "%s, allocated", name)
			m.add("allocs/event", float64(u.objects)/n, "%s, allocations", name)
		} else {
			m.add("events/s", n/u.wall.Seconds(), "%s, %d goroutines", name, workers)
			m.add("events/s", n/u.cpu.Seconds(), "%s, %d goroutines, a core", name, workers)
		}
		if workers == m.options.Workers {
			break
		}
	}
	return nil
}

// used is what observing a stream took.
type used struct {
	events         int
	wall, cpu      time.Duration
	bytes, objects uint64 // allocated
}

// cpuTime is the time that this process has had of all CPUs: what it would have
// taken alone on the machine.
func cpuTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		panic(err) // the clock is there since Linux 2.6.12
	}
	return time.Duration(t.Nano())
}

// batch is how many events are observed between looks at the clock.
const batch = 1024

// observe has an engine observe a stream over and over on several goroutines.
func (m *measurement) observe(ctx context.Context, e *pattern.Engine, events []event.Event, workers int) used {
	var before, after runtime.MemStats
	streams := make([][]event.Event, workers)
	for w := range streams {
		streams[w] = slices.Clone(events)
	}
	runtime.GC()
	runtime.ReadMemStats(&before)
	start, cpu := time.Now(), cpuTime()
	var n atomic.Int64
	var all sync.WaitGroup
	for w, events := range streams {
		all.Go(func() {
			i := w * len(events) / workers
			// At least once: the time may be over before a goroutine begins.
			for begun := false; !begun || time.Since(start) < m.options.For && ctx.Err() == nil; begun = true {
				at := time.Now().UnixNano()
				for range batch {
					events[i].Time = at
					e.Observe(&events[i])
					if i++; i == len(events) {
						i = 0
					}
				}
				n.Add(batch)
			}
		})
	}
	all.Wait()
	u := used{events: int(n.Load()), wall: time.Since(start), cpu: cpuTime() - cpu}
	runtime.ReadMemStats(&after)
	u.bytes, u.objects = after.TotalAlloc-before.TotalAlloc, after.Mallocs-before.Mallocs
	return u
}

// oneByOne measures the same detection rules without any index.
func (m *measurement) oneByOne(ctx context.Context) error {
	events := m.stream(0)
	start, cpu, n, rules := time.Now(), cpuTime(), 0, 0
	for _, r := range m.library.Rules {
		if r.Detection != nil {
			rules++
		}
	}
	for n == 0 || time.Since(start) < m.options.For {
		if err := ctx.Err(); err != nil {
			return err
		}
		ev := &events[n%len(events)]
		for _, r := range m.library.Rules {
			if r.Detection != nil {
				detect.Plain(r.Rule, ev)
			}
		}
		n++
	}
	took := cpuTime() - cpu
	m.add("events/s", float64(n)/took.Seconds(), "one by one, a core")
	m.add("ns", float64(took.Nanoseconds())/float64(n*rules), "one by one, a rule an event")
	m.add("times", m.results[0].Value/(float64(n)/took.Seconds()), "one by one, how much slower")
	return nil
}

// rate is how many events a second come in while latency is measured: what a
// busy host has.
const rate = 50_000

// patience is how long the first alert may take on a machine that has no time.
const patience = 30 * time.Second

// latency measures the time from an event to the alert that it completes.
func (m *measurement) latency(ctx context.Context) error {
	e, err := pattern.New(m.library, pattern.DefaultLimits)
	if err != nil {
		return err
	}
	events := m.stream(1)
	var mu sync.Mutex
	var times []time.Duration
	alert := func(a event.Event) {
		late := time.Duration(time.Now().UnixNano() - a.Time)
		mu.Lock()
		times = append(times, late)
		mu.Unlock()
	}
	some := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(times) > 0
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	all.Go(func() { e.Run(running, alert) })
	start, n := time.Now(), 0
	for ctx.Err() == nil && (time.Since(start) < 2*m.options.For || !some() && time.Since(start) < patience) {
		for due := int(time.Since(start).Seconds() * rate); n < due; n++ {
			ev := events[n%len(events)]
			ev.Time = time.Now().UnixNano()
			_, alerts := e.Observe(&ev)
			for _, a := range alerts {
				alert(a)
			}
		}
		time.Sleep(50 * time.Microsecond)
	}
	stop()
	all.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(times) == 0 {
		return fmt.Errorf("no alert came while latency was measured")
	}
	slices.SortFunc(times, cmp.Compare)
	for _, p := range []int{50, 99} {
		m.add("us", float64(times[(len(times)-1)*p/100].Nanoseconds())/1e3, "latency of an alert, p%d", p)
	}
	return nil
}
