package tuned

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"warder/boot"
	"warder/boot/debian"
	"warder/boot/kernelpkg"
)

// A Request says which kernel to build.
type Request struct {
	Arch string // "amd64" or "arm64"
	// Force builds even when the newest tuned kernel was built from the same
	// configuration.
	Force bool
	// Dir keeps source and objects for the next build, which then compiles only
	// what changed. Empty: they are removed; while the build runs they take
	// about 4 GB in warder's cache.
	Dir  string
	Jobs int // compilers at a time; default one a CPU
	// Progress is called from time to time when not nil.
	Progress func(debian.Progress)
}

// Build builds the tuned kernel from Debian's newest source of a release that
// warder is tested with, and installs it. From the same source, configuration
// and compiler comes the same kernel, byte by byte.
func Build(ctx context.Context, req Request) (*kernelpkg.Package, error) {
	fragment, err := Fragment(req.Arch)
	if err != nil {
		return nil, err
	}
	if !req.Force {
		if p, err := kernelpkg.FindFlavour(req.Arch, kernelpkg.Tuned); err == nil && p.Recipe == Recipe(fragment) {
			return p, nil
		}
	}
	if req.Progress == nil {
		req.Progress = func(debian.Progress) {}
	}
	if req.Jobs == 0 {
		req.Jobs = runtime.NumCPU()
	}
	t := targets[req.Arch]
	if err := t.checkTools(); err != nil {
		return nil, err
	}
	cache, err := boot.CacheDir()
	if err != nil {
		return nil, err
	}
	if req.Dir == "" {
		if err := os.MkdirAll(cache, 0o755); err != nil {
			return nil, err
		}
		if req.Dir, err = os.MkdirTemp(cache, "kernel-build-*"); err != nil {
			return nil, err
		}
		defer os.RemoveAll(req.Dir)
	}
	src, err := fetchSource(ctx, req, cache)
	if err != nil {
		return nil, fmt.Errorf("kernel source: %w", err)
	}
	b := build{req: req, target: t, source: src.dir, objects: filepath.Join(req.Dir, req.Arch), fragment: fragment}
	if err := b.configure(ctx); err != nil {
		return nil, fmt.Errorf("configure the kernel: %w", err)
	}
	if err := b.compile(ctx); err != nil {
		return nil, fmt.Errorf("compile the kernel: %w", err)
	}
	release, err := os.ReadFile(filepath.Join(b.objects, "include/config/kernel.release"))
	if err != nil {
		return nil, err
	}
	return kernelpkg.InstallBuilt(kernelpkg.Built{
		Arch: req.Arch, Release: strings.TrimSpace(string(release)), Version: src.version, Recipe: Recipe(fragment),
		Kernel: filepath.Join(b.objects, t.image), Config: filepath.Join(b.objects, ".config"),
	})
}

// A build is the kernel's source tree with a directory for the objects of one
// architecture.
type build struct {
	req      Request
	target   target
	source   string
	objects  string
	fragment []byte
}

// configure makes the configuration, which must be all that was asked for.
func (b build) configure(ctx context.Context) error {
	if err := os.MkdirAll(b.objects, 0o755); err != nil {
		return err
	}
	wanted := filepath.Join(b.objects, "wanted.config")
	if err := os.WriteFile(wanted, b.fragment, 0o644); err != nil {
		return err
	}
	b.req.Progress(debian.Progress{What: "configure"})
	if err := b.make(ctx, nil, "KCONFIG_ALLCONFIG="+wanted, "alldefconfig"); err != nil {
		return err
	}
	config, err := os.ReadFile(filepath.Join(b.objects, ".config"))
	if err != nil {
		return err
	}
	if unmet := Unmet(b.fragment, config); len(unmet) > 0 {
		return fmt.Errorf("this source cannot have all that is asked for; it ignores\n\t%s", strings.Join(unmet, "\n\t"))
	}
	return nil
}

func (b build) compile(ctx context.Context) error {
	var files int64
	report := func(line string) {
		if strings.HasPrefix(line, "  ") { // "  CC      init/main.o"
			files++
			b.req.Progress(debian.Progress{What: "compile", Done: files, Unit: "files"})
		}
	}
	err := b.make(ctx, report, "-j"+strconv.Itoa(b.req.Jobs), filepath.Base(b.target.image))
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(b.objects, b.target.image)); err != nil {
		return errors.New("make left no " + b.target.image)
	}
	return nil
}
