// Command inside runs benchmarks in the lab's outer machine: it starts warder
// and its peers there, one after the other, and measures all of them in the
// same way. What it finds goes to the file results.json of --results.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"warder/lab/bench/measure"
)

// A benchmark is a named set of measurements.
type benchmark struct {
	name string
	run  func(context.Context, *bench) error
}

// benchmarks in the order in which they run.
var benchmarks = []benchmark{
	{"boot", benchBoot},
	{"memory", benchMemory},
	{"devices", benchDevices},
	{"traps", benchTraps},
	{"services", benchServices},
	{"idle", benchIdle},
	{"lan", benchLAN},
}

// bench is what a benchmark runs with.
type bench struct {
	name    string // the benchmark's
	files   files
	peer    string // the beginning of the names of the peers to measure
	repeat  int
	vms     int // for what is measured with several
	verbose bool
	// patience is how long a guest may take to be at its first instruction or done with
	// its measurements, by this machine's clock.
	patience time.Duration
	report   *measure.Report
}

// files are what package main of lab/bench put into this machine.
type files struct {
	vmlinux string // the guest kernel, as expanded as the architecture has it
	bzImage string // the same kernel as it is distributed
	first   string // initrd.First
	work    string // initrd.Work
}

func main() {
	b := &bench{report: &measure.Report{Arch: runtime.GOARCH, About: map[string]string{}}}
	var selected, results string
	flag.StringVar(&selected, "bench", "", "benchmarks to run, by name (default all)")
	flag.StringVar(&b.peer, "peer", "", "peers to measure, by the beginning of their names (default all)")
	flag.StringVar(&results, "results", "/results", "directory for results.json")
	flag.StringVar(&b.files.vmlinux, "vmlinux", "", "guest kernel, expanded")
	flag.StringVar(&b.files.bzImage, "bzimage", "", "guest kernel, as distributed")
	flag.StringVar(&b.files.first, "first", "", "initramfs of one instruction")
	flag.StringVar(&b.files.work, "work", "", "initramfs that measures devices")
	flag.IntVar(&b.repeat, "repeat", 3, "how often everything is measured")
	flag.IntVar(&b.vms, "vms", 8, "how many VMs several are, at least 2")
	flag.DurationVar(&b.patience, "patience", 20*time.Second, "how long a guest may take by this machine's clock")
	flag.BoolVar(&b.verbose, "v", false, "show what the machines print")
	flag.Parse()
	if err := run(b, strings.FieldsFunc(selected, func(r rune) bool { return r == ',' || r == ' ' }), results); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(b *bench, selected []string, results string) error {
	for _, name := range selected {
		if !slices.ContainsFunc(benchmarks, func(x benchmark) bool { return x.name == name }) {
			return fmt.Errorf("no benchmark %q", name)
		}
	}
	// Whoever has no more time gets what there is.
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	if said, err := exec.CommandContext(ctx, qemuProgram, "--version").Output(); err == nil {
		b.report.About["peer"], _, _ = strings.Cut(string(said), "\n")
	}
	var errs []error
	for _, x := range benchmarks {
		if len(selected) > 0 && !slices.Contains(selected, x.name) {
			continue
		}
		b.name = x.name
		err := x.run(ctx, b)
		if ctx.Err() != nil {
			err = errors.New("the time is over")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", x.name, err))
		}
	}
	f, err := os.Create(filepath.Join(results, "results.json"))
	if err != nil {
		return err
	}
	return errors.Join(append(errs, b.report.Write(f), f.Close())...)
}

// add records a value of the current benchmark and shows it.
func (b *bench) add(quantity, peer, unit string, better measure.Better, value float64) {
	b.report.Add(b.name+"/"+quantity, peer, unit, better, value)
	fmt.Printf("%s/%s: %s: %.6g %s\n", b.name, quantity, peer, value, unit)
}

// absent records that a peer could not be measured.
func (b *bench) absent(peer string, why error) {
	b.report.Absent = append(b.report.Absent, measure.Absent{Name: b.name, Peer: peer, Why: why.Error()})
	fmt.Printf("%s: %s: not measured: %v\n", b.name, peer, why)
}
