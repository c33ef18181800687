package kernelpkg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"warder/boot"
	"warder/boot/debian"
)

// metaPackages are the packages that stand for Debian's newest cloud kernel, by
// preference: the release that warder is tested with, then whatever there is.
var metaPackages = []string{"linux-image-6.12-cloud-%s", "linux-image-cloud-%s"}

// Pull fetches Debian's newest cloud kernel for arch from the package sources of
// this machine and installs it; force installs it again if it is there.
func Pull(ctx context.Context, arch string, force bool, progress func(debian.Progress)) (*Package, error) {
	if err := checkArch(arch); err != nil {
		return nil, err
	}
	cache, err := boot.CacheDir()
	if err != nil {
		return nil, err
	}
	archive, err := debian.Open(ctx, debian.Config{Arch: arch, StateDir: filepath.Join(cache, "apt"), Progress: progress})
	if err != nil {
		return nil, err
	}
	name, err := resolve(ctx, archive, arch)
	if err != nil {
		return nil, err
	}
	paths, err := archive.Fetch(ctx, filepath.Join(cache, "packages"), name)
	if err != nil {
		return nil, err
	}
	if progress != nil {
		progress(debian.Progress{What: "unpack " + name})
	}
	p, err := Install(ctx, paths[0], force)
	if err != nil {
		return nil, err
	}
	return p, os.Remove(paths[0])
}

// resolve finds the package with the kernel that a meta-package stands for.
func resolve(ctx context.Context, archive *debian.Archive, arch string) (string, error) {
	for _, format := range metaPackages {
		control, err := archive.Show(ctx, fmt.Sprintf(format, arch))
		if errors.Is(err, debian.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", err
		}
		for _, name := range debian.Depends(control) {
			if strings.HasPrefix(name, "linux-image-") {
				return name, nil
			}
		}
	}
	return "", fmt.Errorf("linux-image-6.12-cloud-%s is %w: give a downloaded one with --deb FILE", arch, debian.ErrNotFound)
}
