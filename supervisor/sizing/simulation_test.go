package sizing

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A curve is what programs use by the second, in parts of the most that their guest
// may have.
type curve func(second int, r *rand.Rand) float64

// made are curves of what loads do at their worst.
var made = map[string]curve{
	"constant":      func(int, *rand.Rand) float64 { return 0.3 },
	"noise":         func(_ int, r *rand.Rand) float64 { return 0.3 + 0.03*(2*r.Float64()-1) },
	"ramp":          func(s int, _ *rand.Rand) float64 { return 0.05 + 0.6*min(1, float64(s)/600) },
	"burst":         func(s int, _ *rand.Rand) float64 { return map[bool]float64{true: 0.2, false: 0.6}[s < 300] },
	"and back":      func(s int, _ *rand.Rand) float64 { return map[bool]float64{true: 0.6, false: 0.1}[s < 300] },
	"fast to-fro":   func(s int, _ *rand.Rand) float64 { return map[bool]float64{true: 0.2, false: 0.45}[s/10%2 == 0] },
	"slow to-fro":   func(s int, _ *rand.Rand) float64 { return map[bool]float64{true: 0.15, false: 0.6}[s/300%2 == 0] },
	"more than max": func(int, *rand.Rand) float64 { return 1.5 },
	"files":         func(s int, _ *rand.Rand) float64 { return map[bool]float64{true: 0.6, false: 0.1}[s < 300] },
	"files to-fro":  func(s int, _ *rand.Rand) float64 { return map[bool]float64{true: 0.6, false: 0.1}[s < 300] },
}

// works is how much of the contents of files the programs of a curve work with in a
// second, in parts of the most that their guest may have.
var works = map[string]func(second int) float64{
	"files":        func(int) float64 { return 0.4 },
	"files to-fro": func(s int) float64 { return map[bool]float64{true: 0.4, false: 0}[s/20%2 == 0] },
}

// recorded reads the curves in testdata: what programs really used, a second a line
// in thousandths of their most. A guest begins at a second of its own.
func recorded(t *testing.T) map[string]curve {
	t.Helper()
	files, err := filepath.Glob("testdata/*.curve")
	if err != nil || len(files) == 0 {
		t.Fatalf("no curves: %v", err)
	}
	curves := make(map[string]curve)
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var points []float64
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var n int
			if _, err := fmt.Sscan(lines.Text(), &n); err != nil {
				t.Fatalf("%s: %q: %v", file, lines.Text(), err)
			}
			points = append(points, float64(n)/1000)
		}
		curves[filepath.Base(file)] = func(s int, _ *rand.Rand) float64 { return points[s%len(points)] }
	}
	return curves
}

// changes is how often a curve may move a guest's memory in 1200 seconds, and how
// often it may turn round: as often as its load does, and once more where a growth
// was too much.
var changes = map[string]struct{ moves, turns int }{
	"constant": {8, 1}, "noise": {8, 1}, "ramp": {20, 1}, "burst": {12, 2}, "and back": {24, 2}, "fast to-fro": {8, 1}, "slow to-fro": {40, 6}, "more than max": {16, 0},
	"files": {16, 1}, "files to-fro": {20, 1},
}

// guest is one of the simulation.
type guest struct {
	name    string
	uses    curve
	offset  int // of its seconds
	b       Bounds
	size    Size
	st      State
	r       *rand.Rand
	cpu     CPU
	read    uint64
	last    int // the direction of the memory's last change
	moves   int
	turns   int
	starved int // seconds with less than its programs use, though there was room
}

// sample is what is known of the guest in a second. Its memory follows within one.
func (g *guest) sample(second int) Sample {
	part := g.uses(second+g.offset, g.r)
	total := g.size.Memory * 9 / 10
	used := uint64(part * float64(g.b.Max.Memory) * 0.9)
	load := part * float64(g.b.Max.CPUs)
	g.cpu.Used += time.Duration(min(load, float64(g.size.CPUs)) * float64(time.Second))
	if load > float64(g.size.CPUs) {
		g.cpu.Waited += time.Second
	}
	if files := works[g.name]; files != nil {
		// What of it does not fit beside the programs is read again.
		of := uint64(files(second) * float64(g.b.Max.Memory) * 0.9)
		g.read += of - min(of, total-min(total, used))
	}
	return Sample{
		Time: time.Unix(int64(second), 0), Asked: g.size, Has: g.size, CPU: g.cpu, Read: g.read,
		Memory: Memory{Total: total, Available: total - min(total, used)},
	}
}

// TestThousandGuests has a thousand guests with all curves share a machine for
// twenty minutes. None ever has less than its minimum or more than its maximum, all
// together never more than there is, and none goes to and fro by itself.
func TestThousandGuests(t *testing.T) {
	const guests, seconds = 1000, 1200
	curves := maps.Clone(made)
	maps.Copy(curves, recorded(t))
	names := slices.Sorted(maps.Keys(curves))
	for _, scarce := range []bool{false, true} {
		r := rand.New(rand.NewPCG(1, 2))
		free := Size{Memory: uint64(guests) * 1024 * mib, CPUs: guests * 4}
		if scarce {
			free = Size{Memory: guests * 400 * mib, CPUs: guests * 3 / 2}
		}
		var all []*guest
		for i := range guests {
			least := Size{Memory: 128 * mib, CPUs: 1}
			most := Size{Memory: uint64(256+r.IntN(768)) * mib / Grain * Grain, CPUs: 1 + r.IntN(4)}
			g := &guest{name: names[i%len(names)], b: Bounds{least, most}, size: least, r: rand.New(rand.NewPCG(3, uint64(i)))}
			if g.uses = curves[g.name]; made[g.name] == nil {
				g.offset = r.IntN(seconds)
			}
			all = append(all, g)
			free.Memory, free.CPUs = free.Memory-least.Memory, free.CPUs-least.CPUs
		}
		for second := range seconds {
			for _, g := range all {
				s := g.sample(second)
				if s.Memory.Available == 0 && g.size.Memory < g.b.Max.Memory && free.Memory > 0 && second > 0 {
					g.starved++
				}
				s.Wanted = scarce && free.Memory == 0
				var o Order
				g.st, o = Next(g.st, s, g.b)
				// The pool gives what it has.
				to := o.Size
				to.Memory = min(to.Memory, g.size.Memory+free.Memory)
				to.CPUs = min(to.CPUs, g.size.CPUs+free.CPUs)
				free.Memory, free.CPUs = free.Memory+g.size.Memory-to.Memory, free.CPUs+g.size.CPUs-to.CPUs
				if to != g.b.Within(to) {
					t.Fatalf("second %d, %s: %+v with %+v", second, g.name, to, g.b)
				}
				if to.Memory != g.size.Memory {
					direction := map[bool]int{true: 1, false: -1}[to.Memory > g.size.Memory]
					if g.last == -direction {
						g.turns++
					}
					g.last = direction
					g.moves++
				}
				g.size = to
			}
		}
		if scarce {
			continue // there growth comes in the pieces that others leave
		}
		for _, g := range all {
			most, ok := changes[g.name]
			if ok && (g.moves > most.moves || g.turns > most.turns) {
				t.Errorf("%s, at most %d MiB: moved %d times, %d turns", g.name, g.b.Max.Memory/mib, g.moves, g.turns)
			}
			if ok && g.starved > 4 {
				t.Errorf("%s, at most %d MiB: %d seconds without what it needed", g.name, g.b.Max.Memory/mib, g.starved)
			}
			if g.name == "files" && g.size.Memory < g.b.Max.Memory*3/8 {
				t.Errorf("%s, at most %d MiB: has %d MiB at the end, and reads", g.name, g.b.Max.Memory/mib, g.size.Memory/mib)
			}
			if !ok && g.turns > seconds/int(Calm/time.Second)/2 {
				t.Errorf("%s, at most %d MiB: %d turns", g.name, g.b.Max.Memory/mib, g.turns)
			}
		}
	}
}
