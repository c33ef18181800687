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
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

type options struct {
	arch    string
	bench   string
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
	flag.StringVar(&o.bench, "bench", "", "benchmarks to run, by name, separated by commas (default all)")
	flag.StringVar(&o.peer, "peer", "", "measure only peers whose name begins so, as in warder (default all)")
	flag.StringVar(&o.out, "out", "out/bench", "directory for the results")
	flag.StringVar(&o.warder, "bin", "bin", "directory of warder's binaries")
	flag.StringVar(&o.peers, "peers", "", "root directory that holds the peers, as of other versions (default Debian's packages)")
	flag.IntVar(&o.repeat, "repeat", 3, "how often everything is measured")
	flag.IntVar(&o.vms, "vms", 8, "how many VMs are measured together")
	flag.Uint64Var(&o.memory, "memory", 3072, "memory of the outer machine in MiB")
	flag.DurationVar(&o.timeout, "timeout", 20*time.Minute, "time for everything")
	flag.BoolVar(&o.icount, "icount", true, "count instructions; without, times depend on this machine and its load")
	flag.BoolVar(&o.verbose, "v", false, "show what the machines print")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("not done after %v", o.timeout))
	defer cancel()
	if err := bench(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench runs the benchmarks and shows their results.
func bench(ctx context.Context, o options) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	r, err := measureInLab(ctx, o, log)
	if err != nil {
		return err
	}
	if err := save(r, o.out); err != nil {
		return err
	}
	return printTable(os.Stdout, r)
}

func (o options) arguments() []string {
	args := []string{"-bench", o.bench, "-peer", o.peer, "-repeat", strconv.Itoa(o.repeat), "-vms", strconv.Itoa(o.vms)}
	if o.verbose {
		args = append(args, "-v")
	}
	return args
}
