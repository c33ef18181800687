package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"

	"warder/boot"
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
		if err := cfg.findKernel(); err != nil {
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
		if err := cfg.addGuestKernel(); err != nil {
			return cfg, err
		}
	}
	return cfg.unpackPackages(ctx)
}

func (cfg *Config) findKernel() error {
	p, err := kernelpkg.Find(cfg.Arch)
	if err != nil {
		return fmt.Errorf("lab: no kernel for the outer machine: %w (warder kernel pull --arch %s gets one)", err, cfg.Arch)
	}
	cfg.Kernel = p.KernelPath // expanded: decompressing costs an emulated CPU a second
	for _, m := range p.Select(kernelpkg.Lab...) {
		cfg.Modules = append(cfg.Modules, m.Path)
	}
	return nil
}

// addGuestKernel puts the guest kernel where it is in the cache here.
func (cfg *Config) addGuestKernel() error {
	cache, err := boot.CacheDir()
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	p, err := kernelpkg.Find(cfg.Arch)
	if err != nil {
		return fmt.Errorf("lab: no guest kernel: %w (warder kernel pull --arch %s gets one)", err, cfg.Arch)
	}
	rel, err := filepath.Rel(cache, p.Dir)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	cfg.Files = append(cfg.Files, File{Host: p.Dir, Guest: path.Join(outer.CacheDir, filepath.ToSlash(rel))})
	cfg.Guests = false // done
	return nil
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
