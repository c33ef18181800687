package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"

	"warder/boot/kernelpkg"
	"warder/lab/outer"
)

// Prepare completes cfg with what it leaves open, fetching what this machine
// does not have yet: the emulator, the outer kernel with its modules, /init,
// packages. Start does it by itself; calling it before puts downloads where
// they can be waited for.
func Prepare(ctx context.Context, cfg Config) (Config, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return cfg, err
	}
	if cfg.QEMU.Path == "" { // a given one is taken as it is
		if cfg.QEMU, err = findQEMU(ctx, cfg); err != nil {
			return cfg, err
		}
	}
	if cfg.Kernel == "" {
		if err := cfg.findKernel(ctx); err != nil {
			return cfg, err
		}
	}
	if cfg.Init == "" {
		if cfg.Init, err = Binary(cfg.Arch); err != nil {
			return cfg, err
		}
		cfg.warder = true
	}
	if cfg.Guests {
		if err := cfg.addGuestKernels(ctx); err != nil {
			return cfg, err
		}
	}
	return cfg.unpackPackages(ctx)
}

// modules are what the outer machine's kernel needs to run VMs; what is built
// in is passed over.
var modules = []string{"kvm_amd", "tun"}

func (cfg *Config) findKernel(ctx context.Context) error {
	p, err := guestKernel(ctx, cfg.Arch, cfg.Log)
	if err != nil {
		return fmt.Errorf("lab: outer kernel: %w", err)
	}
	cfg.Kernel = p.KernelPath // expanded: decompressing costs an emulated CPU a second
	for _, m := range p.Select(modules...) {
		cfg.Modules = append(cfg.Modules, m.Path)
	}
	return nil
}

// guestKernel returns the guest kernel of this machine's cache, which it gets
// first if there is none.
func guestKernel(ctx context.Context, arch string, log *slog.Logger) (*kernelpkg.Package, error) {
	p, err := kernelpkg.Find(arch)
	if _, missing := errors.AsType[*kernelpkg.MissingError](err); missing {
		p, err = kernelpkg.Pull(ctx, arch, false, progressTo(log))
	}
	if err != nil {
		return nil, err
	}
	return p, nil
}

// addGuestKernels puts guest kernels where they are in the cache here.
func (cfg *Config) addGuestKernels(ctx context.Context) error {
	kernels, err := cfg.guestKernels(ctx)
	if err != nil {
		return err
	}
	for _, p := range kernels {
		cfg.Files = append(cfg.Files, File{Host: p.Dir, Guest: path.Join(outer.CacheDir, "kernels", p.Arch, filepath.Base(p.Dir))})
	}
	cfg.Guests = false // done
	return nil
}

// guestKernels are the kernels that are to be taken along.
func (cfg *Config) guestKernels(ctx context.Context) (kernels []*kernelpkg.Package, err error) {
	if cfg.GuestKernel != nil {
		return []*kernelpkg.Package{cfg.GuestKernel}, nil
	}
	flavours := cfg.Flavours
	if len(flavours) == 0 {
		flavours = kernelpkg.Flavours
	}
	for _, f := range flavours {
		var p *kernelpkg.Package
		if f == kernelpkg.Debian {
			p, err = guestKernel(ctx, cfg.Arch, cfg.Log)
		} else {
			p, err = kernelpkg.FindFlavour(cfg.Arch, f)
		}
		if _, missing := errors.AsType[*kernelpkg.MissingError](err); missing && len(cfg.Flavours) == 0 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("lab: guest kernel: %w", err)
		}
		kernels = append(kernels, p)
	}
	return kernels, nil
}

// Binary returns the warder binary for arch: the one built beside the running
// one, or the running one itself.
func Binary(arch string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	beside := filepath.Join(filepath.Dir(self), "warder-"+arch)
	if _, err := os.Stat(beside); err == nil {
		return beside, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("lab: %w", err)
	}
	if arch == runtime.GOARCH {
		return self, nil
	}
	return "", fmt.Errorf("lab: %s is missing: make build makes it", beside)
}
