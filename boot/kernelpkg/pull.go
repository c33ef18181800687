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

// metaPackages are the packages that stand for Debian's newest kernel of a
// flavour, by preference: the release that warder is tested with, then whatever
// there is.
var metaPackages = map[Flavour][]string{
	Debian: {"linux-image-6.12-cloud-%s", "linux-image-cloud-%s"},
	Host:   {"linux-image-6.12-%s", "linux-image-%s"},
}

// Pull fetches Debian's newest cloud kernel for arch from the package sources of
// this machine and installs it; force installs it again if it is there.
func Pull(ctx context.Context, arch string, force bool, progress func(debian.Progress)) (*Package, error) {
	return forGuests.pull(ctx, arch, force, progress)
}

func (u purpose) pull(ctx context.Context, arch string, force bool, progress func(debian.Progress)) (*Package, error) {
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
	name, err := resolve(ctx, archive, u.flavour, arch)
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
	p, err := u.install(ctx, paths[0], force)
	if err != nil {
		return nil, err
	}
	return p, os.Remove(paths[0])
}

// resolve finds the package with the kernel that a meta-package stands for.
func resolve(ctx context.Context, archive *debian.Archive, flavour Flavour, arch string) (string, error) {
	for _, format := range metaPackages[flavour] {
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
	return "", fmt.Errorf(metaPackages[flavour][0]+" is %w: give a downloaded one with --deb FILE", arch, debian.ErrNotFound)
}
