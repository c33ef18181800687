package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"warder/boot/kernelpkg"
	"warder/lab"
	"warder/lab/bench/initrd"
	"warder/lab/bench/measure"
)

// packages are the Debian packages of the peers.
var packages = map[string][]string{
	"amd64": {"qemu-system-x86"},
	"arm64": {"qemu-system-arm"},
}

// An inLab runs benchmarks in outer machines, which have everything in them.
type inLab struct {
	o     options
	cfg   lab.Config
	args  []string          // the command's, for any benchmark
	dir   string            // for what goes there and comes back
	about map[string]string // what is measured with
}

// prepare builds what the machines hold: what can take long is done before their
// time runs.
func prepare(ctx context.Context, o options, log *slog.Logger) (_ *inLab, err error) {
	l := &inLab{o: o}
	if l.dir, err = os.MkdirTemp("", "warder-bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	l.cfg = lab.Config{
		Arch: o.arch, Memory: o.memory << 20, Guests: true, Silence: o.timeout,
		Init: filepath.Join(o.warder, "warder-"+o.arch), Log: log,
	}
	switch {
	case o.peers != "":
		l.add(o.peers, "/")
	case strings.HasPrefix("qemu", o.peer) || strings.HasPrefix(o.peer, "qemu"):
		l.cfg.Packages = packages[o.arch]
	}
	l.cfg.Packages = append(slices.Clip(l.cfg.Packages), "strace")
	if slices.Contains(o.bench, "traps") {
		l.cfg.Packages = append(l.cfg.Packages, "linux-perf")
	}
	l.add(l.cfg.Init, "/bin/warder")
	programs := map[string]string{"warder/lab/bench/inside": "/bench/inside"}
	if o.arch == "amd64" {
		programs["github.com/bobuhiro11/gokvm"] = "/bin/gokvm"
	}
	for pkg, there := range programs {
		here := filepath.Join(l.dir, filepath.Base(there))
		if err := build(ctx, o.arch, pkg, here); err != nil {
			return nil, err
		}
		l.add(here, there)
	}
	kernel, err := kernelpkg.Default(o.arch)
	if err != nil {
		return nil, err
	}
	images, err := makeImages(ctx, o.arch, kernel, l.dir)
	if err != nil {
		return nil, err
	}
	l.add(images, "/bench")
	l.add(filepath.Join(l.dir, "guest"), "/bench/guest")
	l.add(kernel.KernelPath, "/bench/vmlinux")
	l.add(kernel.VmlinuzPath, "/bench/bzImage")
	l.args = []string{
		"/bench/inside", "-peer", o.peer, "-repeat", strconv.Itoa(o.repeat), "-vms", strconv.Itoa(o.vms), "-v=" + strconv.FormatBool(o.verbose),
		"-first", "/bench/first.cpio", "-work", "/bench/work.cpio", "-vmlinux", "/bench/vmlinux", "-bzimage", "/bench/bzImage",
	}
	l.about = map[string]string{"guest kernel": kernel.Release}
	if l.cfg, err = lab.Prepare(ctx, l.cfg); err != nil {
		return nil, err
	}
	return l, addModules(&l.cfg)
}

func (l *inLab) add(host, there string) {
	l.cfg.Files = append(l.cfg.Files, lab.File{Host: host, Guest: there})
}

func (l *inLab) close() { os.RemoveAll(l.dir) }

// ending is what a benchmark whose time is over has to end what it is at.
const ending = 2 * time.Minute

// measure runs a benchmark and brings its results back, with an error what there
// is of them.
func (l *inLab) measure(ctx context.Context, name string) (*measure.Report, error) {
	results := filepath.Join(l.dir, "results-"+name)
	none := &measure.Report{}
	signals := make(chan int, 1)
	over := time.AfterFunc(l.o.timeout, func() { signals <- int(unix.SIGTERM) })
	defer over.Stop()
	ctx, cancel := context.WithTimeoutCause(ctx, l.o.timeout+ending, fmt.Errorf("not done after %v", l.o.timeout+ending))
	defer cancel()
	cfg := l.cfg
	// Memory takes no time, and several guests come up sooner on a machine that does
	// not count.
	cfg.ICount = l.o.icount && name != "memory" && name != "idle"
	patience := 20 * time.Second
	if !cfg.ICount {
		patience = 3 * time.Minute
	}
	exit, err := lab.Run(ctx, cfg, lab.Command{
		Args: append(l.args, "-bench", name, "-patience", patience.String()), Stdout: os.Stdout, Stderr: os.Stderr, Signals: signals,
		Results: "/results", ResultsTo: results,
	})
	if err != nil {
		return none, err
	}
	if exit.Status != 0 {
		err = fmt.Errorf("exit status %d", exit.Status)
	}
	r, rerr := read(filepath.Join(results, "results.json"))
	if rerr != nil {
		return none, errors.Join(err, rerr)
	}
	return r, err
}

// addModules adds what the peers' devices need of the outer machine's kernel.
func addModules(cfg *lab.Config) error {
	outer, err := kernelpkg.Find(cfg.Arch)
	if err != nil {
		return err
	}
	for _, m := range outer.Select("vhost_net", "vhost_vsock", "bridge") {
		if !slices.Contains(cfg.Modules, m.Path) {
			cfg.Modules = append(cfg.Modules, m.Path)
		}
	}
	return nil
}

// makeImages writes the guests' initramfs to a directory.
func makeImages(ctx context.Context, arch string, kernel *kernelpkg.Package, dir string) (string, error) {
	guest := filepath.Join(dir, "guest")
	if err := build(ctx, arch, "warder/lab/bench/guest", guest); err != nil {
		return "", err
	}
	images := filepath.Join(dir, "images")
	if err := os.Mkdir(images, 0o755); err != nil {
		return "", err
	}
	first, err := initrd.First(arch)
	if err != nil {
		return "", err
	}
	work, err := initrd.Work(guest, kernel)
	if err != nil {
		return "", err
	}
	return images, errors.Join(
		os.WriteFile(filepath.Join(images, "first.cpio"), first, 0o644),
		os.WriteFile(filepath.Join(images, "work.cpio"), work, 0o644))
}

func read(name string) (*measure.Report, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return measure.Read(f)
}

// build compiles a command of this module, or of one that it requires.
func build(ctx context.Context, arch, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if b, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, b)
	}
	return nil
}
