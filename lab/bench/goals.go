package main

import (
	"fmt"

	"warder/lab/bench/measure"
)

// A goal is what a measurement of warder has to be, as a factor of a peer's.
type goal struct {
	name   string // of the measurement
	peer   string // "" for an absolute goal
	factor float64
}

// goals are those of docs/SPECIFICATION.md.
var goals = append([]goal{
	{"boot/time", "qemu microvm", 0.6},
	{"boot/time", "qemu virt", 0.6},
	{"memory/a further VM", "", 1},
	{"traps/a hook", bareExit, 1.5},
	{"traps/a call decoded", bareExit, 3},
}, throughputs("qemu microvm", "qemu virt")...)

// throughputs are the goals of all devices: as much as a peer's.
func throughputs(peers ...string) (goals []goal) {
	for _, name := range []string{
		"blk read", "blk write", "fs read", "fs write",
		"net to host", "net from host", "vsock to host", "vsock from host", "console to host", "console from host",
	} {
		for _, p := range peers {
			goals = append(goals, goal{"devices/" + name, p, 1})
		}
	}
	return goals
}

// bareExit is what a trapped call is compared with: an access that leaves the guest and
// comes back at once.
const bareExit = "bare exit"

// verdict says whether a goal is met. ok is false where it cannot be said.
func (g goal) verdict(r *measure.Report) (text string, met, ok bool) {
	ours, found := r.Find(g.name, "warder")
	if !found {
		return "", false, false
	}
	limit, than := g.factor, fmt.Sprintf("%g %s", g.factor, ours.Unit)
	if g.peer != "" {
		theirs, found := r.Find(g.name, g.peer)
		if !found {
			return "", false, false
		}
		limit = g.factor * theirs.Median()
		than = fmt.Sprintf("%g of %s", g.factor, g.peer)
		text = fmt.Sprintf("%s: %.2f of %s", g.name, ours.Median()/theirs.Median(), g.peer)
	} else {
		text = fmt.Sprintf("%s: %.4g %s", g.name, ours.Median(), ours.Unit)
	}
	if ours.Better == measure.More {
		return text + ", goal: at least " + than, ours.Median() >= limit, true
	}
	return text + ", goal: at most " + than, ours.Median() <= limit, true
}
