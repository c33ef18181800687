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
	"strings"

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

// measureInLab puts everything into an outer machine, runs the benchmarks
// there and brings the results back.
func measureInLab(ctx context.Context, o options, log *slog.Logger) (*measure.Report, error) {
	dir, err := os.MkdirTemp("", "warder-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	c := lab.Command{
		Args: append([]string{"/bench/inside"}, o.arguments()...), Stdout: os.Stdout, Stderr: os.Stderr,
		Results: "/results", ResultsTo: filepath.Join(dir, "results"),
	}
	cfg := lab.Config{
		Arch: o.arch, Memory: o.memory << 20, ICount: o.icount, Guests: true, Silence: o.timeout,
		Init: filepath.Join(o.warder, "warder-"+o.arch), Log: log,
	}
	add := func(host, there string) { cfg.Files = append(cfg.Files, lab.File{Host: host, Guest: there}) }
	switch {
	case o.peers != "":
		add(o.peers, "/")
	case strings.HasPrefix("qemu", o.peer) || strings.HasPrefix(o.peer, "qemu"):
		cfg.Packages = packages[o.arch]
	}
	add(cfg.Init, "/bin/warder")

	inside := filepath.Join(dir, "inside")
	if err := build(ctx, o.arch, "warder/lab/bench/inside", inside); err != nil {
		return nil, err
	}
	add(inside, "/bench/inside")
	if o.arch == "amd64" {
		gokvm := filepath.Join(dir, "gokvm")
		if err := build(ctx, o.arch, "github.com/bobuhiro11/gokvm", gokvm); err != nil {
			return nil, err
		}
		add(gokvm, "/bin/gokvm")
	}
	kernel, err := kernelpkg.Default(o.arch)
	if err != nil {
		return nil, err
	}
	images, err := makeImages(ctx, o.arch, kernel, dir)
	if err != nil {
		return nil, err
	}
	add(images, "/bench")
	add(kernel.KernelPath, "/bench/vmlinux")
	add(kernel.VmlinuzPath, "/bench/bzImage")
	c.Args = append(c.Args, "-first", "/bench/first.cpio", "-work", "/bench/work.cpio", "-vmlinux", "/bench/vmlinux", "-bzimage", "/bench/bzImage")

	// What can take long is done before the machine's time runs.
	if cfg, err = lab.Prepare(ctx, cfg); err != nil {
		return nil, err
	}
	if err := addModules(&cfg); err != nil {
		return nil, err
	}
	exit, err := lab.Run(ctx, cfg, c)
	if err != nil {
		return nil, err
	}
	r, err := read(filepath.Join(c.ResultsTo, "results.json"))
	if exit.Status != 0 {
		return nil, errors.Join(fmt.Errorf("the benchmarks failed, exit status %d", exit.Status), err)
	}
	if err != nil {
		return nil, err
	}
	r.About["guest kernel"] = kernel.Release
	return r, nil
}

// addModules adds what the peers' devices need of the outer machine's kernel.
func addModules(cfg *lab.Config) error {
	outer, err := kernelpkg.Find(cfg.Arch)
	if err != nil {
		return err
	}
	for _, m := range outer.Select("vhost_net", "vhost_vsock") {
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
