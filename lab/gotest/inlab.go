package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"warder/boot/kernelpkg"
	"warder/lab"
)

// A labRun runs compiled tests in outer machines of one architecture.
type labRun struct {
	o      options
	arch   string
	dir    string // for binaries and results
	tests  []goPackage
	cpus   map[string]int // that a package's tests want of the machine, by its path
	cfg    lab.Config
	report *reporter
	run    *run
	m      *lab.Machine
}

// runInLab compiles the tests that need KVM for arch and runs all of them in
// one outer machine, or one for each number of CPUs: booting is paid once.
func runInLab(ctx context.Context, o options, arch string, report *reporter) (*run, error) {
	dir, err := os.MkdirTemp("", "warder-gotest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	l := &labRun{o: o, arch: arch, dir: dir, report: report, run: newRun("lab " + arch), cpus: map[string]int{}}
	if err := l.prepare(ctx); err != nil {
		return nil, err
	}
	defer l.close()
	for _, p := range l.tests {
		if err := l.test(ctx, p); err != nil {
			return nil, err
		}
		report.packageDone(l.run, p.ImportPath)
	}
	if err := l.again(ctx); err != nil {
		return nil, err
	}
	return l.run, nil
}

func (l *labRun) prepare(ctx context.Context) error {
	tests, err := needKVM(ctx, l.arch, l.o.packages)
	if err != nil {
		return err
	}
	l.cfg = lab.Config{
		Arch: l.arch, Memory: l.o.memory << 20, Guests: true, Flavours: []kernelpkg.Flavour{l.o.kernel}, GuestKernel: l.o.guest,
		Init: filepath.Join(l.dir, "init"), Log: l.report.logger(l.run.Place),
	}
	if err := buildInit(ctx, l.arch, l.cfg.Init); err != nil {
		return err
	}
	for _, p := range tests {
		binary := filepath.Join(l.dir, testName(p)+".test")
		if err := buildTest(ctx, l.arch, p, l.o.cover != "", binary); err != nil {
			l.run.fail(p.ImportPath, err.Error())
			l.report.packageDone(l.run, p.ImportPath)
			continue
		}
		if err := l.addPackage(p, binary); err != nil {
			return err
		}
		l.tests = append(l.tests, p)
		if l.cpus[p.ImportPath], err = l.o.cpusFor(p.Dir); err != nil {
			return err
		}
	}
	slices.SortStableFunc(l.tests, func(a, b goPackage) int { return l.cpus[a.ImportPath] - l.cpus[b.ImportPath] })
	return nil
}

// labCPUs holds how many CPUs a package's tests want of the outer machine, if not one:
// guests have as many as their host at most.
const labCPUs = "testdata/lab-cpus"

// cpusFor is how many CPUs the machine has for the tests in a directory.
func (o options) cpusFor(dir string) (int, error) {
	if o.cpus > 0 {
		return o.cpus, nil
	}
	b, err := os.ReadFile(filepath.Join(dir, labCPUs))
	if errors.Is(err, fs.ErrNotExist) {
		return 1, nil
	} else if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", filepath.Join(dir, labCPUs), err)
	}
	return n, nil
}

// labPackages names, one a line, the Debian packages that a package's tests need
// in the outer machine.
const labPackages = "testdata/lab-packages"

// addPackage takes a package's test binary along, with the files of its
// directory and its test data: tests find them as they do here.
func (l *labRun) addPackage(p goPackage, binary string) error {
	dir, err := guestDir(p)
	if err != nil {
		return err
	}
	l.cfg.Files = append(l.cfg.Files, lab.File{Host: binary, Guest: dir + "/lab.test"})
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Type().IsRegular() || e.IsDir() && e.Name() == "testdata" {
			l.cfg.Files = append(l.cfg.Files, lab.File{Host: filepath.Join(p.Dir, e.Name()), Guest: dir + "/" + e.Name()})
		}
	}
	packages, err := os.ReadFile(filepath.Join(p.Dir, labPackages))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.cfg.Packages = append(l.cfg.Packages, strings.Fields(string(packages))...)
	common := filepath.Join(p.Module.Dir, "testdata")
	if info, err := os.Stat(common); err == nil && info.IsDir() {
		l.cfg.Files = append(l.cfg.Files, lab.File{Host: common, Guest: "/src/warder/testdata"})
	}
	return nil
}

// attempts is how often a package is run when its outer machine fails (decision 0001).
const attempts = 3

// test runs a package's tests. Its error says that there is no point in going
// on.
func (l *labRun) test(ctx context.Context, p goPackage) error {
	var err error
	for range attempts {
		l.run.forget(p.ImportPath)
		if err = l.boot(ctx, l.cpus[p.ImportPath]); err == nil {
			err = l.once(ctx, p)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, machine := errors.AsType[*lab.MachineError](err); !machine {
			break
		}
		l.report.note("%s: %s: %v", l.run.Place, p.ImportPath, err)
		l.close()
	}
	if err != nil {
		l.run.fail(p.ImportPath, err.Error())
	}
	return nil
}

func (l *labRun) boot(ctx context.Context, cpus int) (err error) {
	if l.cfg.CPUs != cpus {
		l.close()
		l.cfg.CPUs = cpus
	}
	if l.m == nil {
		l.m, err = lab.Start(ctx, l.cfg)
	}
	return err
}

func (l *labRun) close() {
	if l.m != nil {
		l.m.Close()
		l.m = nil
	}
}

// grace is what a test binary gets on top of its own timeout, to report it.
const grace = 30 * time.Second

// once runs a package's tests once. The events in its output are final only
// with the binary's exit status: a run that broke off is a failure.
func (l *labRun) once(ctx context.Context, p goPackage) error {
	dir, err := guestDir(p)
	if err != nil {
		return err
	}
	events := exec.CommandContext(ctx, "go", "tool", "test2json", "-t", "-p", p.ImportPath)
	events.Stderr = os.Stderr
	in, err := events.StdinPipe()
	if err != nil {
		return err
	}
	out, err := events.StdoutPipe()
	if err != nil {
		return err
	}
	if err := events.Start(); err != nil {
		return err
	}
	consumed := make(chan error, 1)
	go func() { consumed <- l.run.consume(out, nil) }()

	c := lab.Command{
		Args:   []string{dir + "/lab.test", "-test.v=test2json", "-test.timeout=" + l.o.timeout.String()},
		Dir:    dir,
		Env:    append([]string{kernelpkg.Variable + "=" + string(l.o.kernel)}, l.o.env...),
		Stdout: in,
		Stderr: in,
	}
	if l.o.count != 1 {
		c.Args = append(c.Args, "-test.count="+fmt.Sprint(l.o.count))
	}
	if l.o.run != "" {
		c.Args = append(c.Args, "-test.run="+l.o.run)
	}
	if l.o.cover != "" {
		c.Results, c.ResultsTo = "/results/"+testName(p), filepath.Join(l.o.cover, l.arch)
		c.Args = append(c.Args, "-test.coverprofile="+c.Results+"/"+testName(p)+".cov")
	}
	bounded, cancel := context.WithTimeoutCause(ctx, l.o.timeout+grace, fmt.Errorf("killed after %v", l.o.timeout+grace))
	defer cancel()
	exit, err := l.m.Run(bounded, c)
	in.Close()
	if cerr := <-consumed; err == nil {
		err = cerr
	}
	if werr := events.Wait(); err == nil {
		err = werr
	}
	if err == nil && exit.Status > 1 { // a panic, the time: not all tests have run
		l.run.record(testID{Package: p.ImportPath}).whole = false
	}
	if err == nil && exit.Status != 0 && l.run.tests[testID{Package: p.ImportPath}].Outcome != failed {
		err = fmt.Errorf("exit status %d", exit.Status)
	}
	return err
}
