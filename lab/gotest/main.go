// Command gotest runs the project's Go tests where each of them can run: here,
// and those that need KVM in the lab, on both architectures.
//
// The tests here run first. One that needs KVM skips itself, saying "runs in
// the lab"; the packages that have such tests (they import internal/testkvm)
// are then compiled for each architecture and run in one outer machine each, or one
// for each number of CPUs in their testdata/lab-cpus, which has the Debian packages
// that their testdata/lab-packages name.
// Everything put off must have passed in the lab at the end.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"warder/boot/kernelpkg"
)

type options struct {
	packages []string
	arches   []string
	race     []string
	here     bool
	parallel bool
	run      string
	kernel   kernelpkg.Flavour
	guest    *kernelpkg.Package // to test with instead of one in the cache
	env      []string
	cover    string
	timeout  time.Duration
	count    uint
	overall  time.Duration
	memory   uint64
	cpus     int
	slowest  int
}

func main() {
	var o options
	var arches, race, kernel, env string
	flag.StringVar(&arches, "arch", "amd64,arm64", "architectures to test in the lab; none for no lab")
	flag.StringVar(&race, "race", "", "patterns of packages to test with the race detector here")
	flag.BoolVar(&o.here, "here", true, "run the tests on this machine too")
	flag.BoolVar(&o.parallel, "parallel", true, "run the architectures at the same time")
	flag.UintVar(&o.count, "count", 1, "run each test so many times, to find what fails now and then")
	flag.StringVar(&o.run, "run", "", "run only tests matching this expression")
	flag.StringVar(&kernel, "kernel", string(kernelpkg.Debian), "guest kernel of the tests: debian, tuned, or a directory that \"warder kernel list\" shows")
	flag.StringVar(&env, "env", "", "variables for the tests: NAME=VALUE, separated by commas or spaces")
	flag.StringVar(&o.cover, "cover", "", "directory for coverage profiles of the lab's runs")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Minute, "time for the tests of one package")
	flag.DurationVar(&o.overall, "overall", 45*time.Minute, "time for everything, after which it hangs")
	flag.Uint64Var(&o.memory, "memory", 2048, "memory of an outer machine in MiB")
	flag.IntVar(&o.cpus, "cpus", 0, "CPUs of the outer machines (default what packages' testdata/lab-cpus say, else 1)")
	flag.IntVar(&o.slowest, "slowest", 8, "how many of the tests that took longest to name at the end")
	flag.Parse()
	if o.packages = flag.Args(); len(o.packages) == 0 {
		o.packages = []string{"./..."}
	}
	o.arches, o.race, o.env = fields(arches), fields(race), fields(env)
	if err := o.findKernel(kernel); err != nil {
		fmt.Fprintln(os.Stderr, "gotest: -kernel:", err)
		os.Exit(1)
	}

	report := newReporter(os.Stdout, o.slowest)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeoutCause(ctx, o.overall, fmt.Errorf("not done after %v", o.overall))
	defer cancel()
	ok, err := test(ctx, o, report)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(1)
	}
}

// findKernel sets the guest kernel of the tests to a flavour, or to one in a directory.
func (o *options) findKernel(name string) (err error) {
	if o.kernel = kernelpkg.Flavour(name); o.kernel.Known() {
		return nil
	}
	if o.guest, err = kernelpkg.Open(name); err != nil {
		return err
	}
	if !slices.Equal(o.arches, []string{o.guest.Arch}) {
		return fmt.Errorf("%s is for %s: say -arch %[2]s", o.guest.Release, o.guest.Arch)
	}
	o.kernel = o.guest.Flavour
	return nil
}

func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// test runs everything and reports whether all of it is well.
func test(ctx context.Context, o options, report *reporter) (bool, error) {
	var runs []*run
	var here *run
	if o.here {
		report.note("testing here")
		var err error
		if here, err = runHere(ctx, o, report); err != nil {
			return false, err
		}
		runs = append(runs, here)
	}
	labs, err := inLabs(ctx, o, report)
	if err != nil {
		return false, err
	}
	for _, arch := range o.arches {
		runs = append(runs, labs[arch])
	}
	return report.summary(runs, verify(here, runtime.GOARCH, labs)), nil
}

func inLabs(ctx context.Context, o options, report *reporter) (map[string]*run, error) {
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		labs  = map[string]*run{}
		first error
	)
	one := func(arch string) {
		report.note("testing in the lab: %s", arch)
		r, err := runInLab(ctx, o, arch, report)
		mu.Lock()
		defer mu.Unlock()
		if labs[arch] = r; err != nil && first == nil {
			first = fmt.Errorf("lab %s: %w", arch, err)
		}
	}
	for _, arch := range o.arches {
		if o.parallel {
			wg.Go(func() { one(arch) })
		} else {
			one(arch)
		}
	}
	wg.Wait()
	return labs, first
}
