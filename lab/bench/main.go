// Command bench measures warder side by side with its peers, QEMU and gokvm, in
// one run in the lab: all get the same guest kernel and initramfs, and what
// they take is read in the same way, on a machine whose clock counts
// instructions, so that nothing else on this host has a part in it.
//
// It prints a table and leaves JSON and a plot in a directory. See
// docs/benchmarks.md for what is measured and how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"warder/lab/bench/measure"
)

// benchmarks are those of package inside, in the order in which they run.
var benchmarks = []string{"boot", "memory", "devices", "traps", "services", "idle", "lan"}

type options struct {
	arch    string
	bench   []string
	peer    string
	out     string
	warder  string // directory of the built binaries
	peers   string // directory of the peers' programs, unpacked
	repeat  int
	vms     int
	memory  uint64 // MiB
	timeout time.Duration
	icount  bool
	verbose bool
}

func main() {
	var o options
	flag.StringVar(&o.arch, "arch", runtime.GOARCH, "architecture, amd64 or arm64")
	names := flag.String("bench", "", "benchmarks to run, by name, separated by commas (default "+strings.Join(benchmarks, ",")+")")
	flag.StringVar(&o.peer, "peer", "", "measure only peers whose name begins so, as in warder (default all)")
	flag.StringVar(&o.out, "out", "out/bench", "directory for the results")
	flag.StringVar(&o.warder, "bin", "bin", "directory of warder's binaries")
	flag.StringVar(&o.peers, "peers", "", "root directory that holds the peers, as of other versions (default Debian's packages)")
	flag.IntVar(&o.repeat, "repeat", 3, "how often everything is measured")
	flag.IntVar(&o.vms, "vms", 8, "how many VMs are measured together")
	flag.Uint64Var(&o.memory, "memory", 3072, "memory of the outer machine in MiB")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Minute, "time for a benchmark, which then ends with what it has")
	flag.BoolVar(&o.icount, "icount", true, "count instructions; without, times depend on this machine and its load")
	flag.BoolVar(&o.verbose, "v", false, "show what the machines print")
	flag.Parse()
	if o.bench = strings.FieldsFunc(*names, func(r rune) bool { return r == ',' || r == ' ' }); len(o.bench) == 0 {
		o.bench = benchmarks
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := bench(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench runs the benchmarks, each in a machine of its own, so that one that fails
// takes nothing from the others, and shows their results.
func bench(ctx context.Context, o options) error {
	for _, name := range o.bench {
		if !slices.Contains(benchmarks, name) {
			return fmt.Errorf("no benchmark %q: have %s", name, strings.Join(benchmarks, ", "))
		}
	}
	l, err := prepare(ctx, o, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	defer l.close()
	all := &measure.Report{Arch: o.arch, About: l.about}
	var errs []error
	for _, name := range o.bench {
		r, err := l.measure(ctx, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		all.Merge(r)
		if err := save(all, o.out); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	return errors.Join(append(errs, printTable(os.Stdout, all))...)
}
