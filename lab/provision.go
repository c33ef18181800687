package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"warder/boot"
	"warder/boot/debian"
)

// leastQEMU is the first major version whose emulated SVM is sound: with 7.2
// the outer Linux panics or hangs in about half of the runs that create many
// VMs.
const leastQEMU = 10

// qemuPackages are the Debian packages to unpack for a QEMU.
var qemuPackages = map[string][]string{
	"amd64": {"qemu-system-x86", "qemu-system-data", "seabios"},
	"arm64": {"qemu-system-arm", "qemu-system-data"},
}

// findQEMU returns a QEMU that is new enough, without the fault that is known of it.
func findQEMU(ctx context.Context, cfg Config) (QEMU, error) {
	q, err := newQEMU(ctx, cfg)
	if err != nil || cfg.Arch != "amd64" {
		return q, err
	}
	if q, err = q.mended(ctx); err != nil {
		return q, fmt.Errorf("lab: a copy of QEMU with its interrupts mended: %w", err)
	}
	return q, nil
}

// newQEMU returns the installed QEMU if it is new enough, and else the one
// of the release's backports, which it fetches once and unpacks in the cache.
func newQEMU(ctx context.Context, cfg Config) (QEMU, error) {
	installed := machines[cfg.Arch].qemu
	path, err := exec.LookPath(installed)
	if err == nil {
		v, err := qemuVersion(ctx, path)
		if err == nil && v >= leastQEMU {
			return QEMU{Path: path}, nil
		}
		cfg.Log.Debug("the installed QEMU will not do", "path", path, "version", v, "err", err)
	}
	cache, err := cacheDir("qemu-" + cfg.Arch)
	if err != nil {
		return QEMU{}, err
	}
	q, err := unpackOnce(ctx, cache, func(dir string) error { return fetchQEMU(ctx, cfg, dir) })
	if err != nil {
		return QEMU{}, fmt.Errorf("lab: no QEMU %d: %w", leastQEMU, err)
	}
	found, err := Unpacked(q, cfg.Arch)
	if err != nil {
		return QEMU{}, err
	}
	v, err := qemuVersion(ctx, found.Path)
	if err != nil {
		return QEMU{}, fmt.Errorf("%w (its libraries come with apt-get install %s)", err, qemuPackages[cfg.Arch][0])
	}
	if v < leastQEMU {
		return QEMU{}, fmt.Errorf("lab: the newest QEMU of this machine's Debian mirror is %d, the lab needs %d", v, leastQEMU)
	}
	return found, nil
}

func fetchQEMU(ctx context.Context, cfg Config, dir string) error {
	archive, debs, err := openArchive(ctx, cfg.Log, debian.Config{Suite: debian.Backports})
	if err != nil {
		return err
	}
	files, err := archive.Fetch(ctx, debs, qemuPackages[cfg.Arch]...)
	if err != nil {
		return err
	}
	for _, file := range files {
		err := debian.Unpack(file, dir, func(name string) bool {
			return name == "usr/bin/"+machines[cfg.Arch].qemu ||
				strings.HasPrefix(name, "usr/share/qemu/") || strings.HasPrefix(name, "usr/share/seabios/")
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// openArchive opens the package sources, with progress to log. It also returns
// the directory for what is downloaded.
func openArchive(ctx context.Context, log *slog.Logger, cfg debian.Config) (_ *debian.Archive, debs string, err error) {
	cache, err := boot.CacheDir()
	if err != nil {
		return nil, "", err
	}
	cfg.StateDir = filepath.Join(cache, "apt")
	if err := os.MkdirAll(cfg.StateDir, 0o755); err != nil {
		return nil, "", err
	}
	cfg.Progress = progressTo(log)
	archive, err := debian.Open(ctx, cfg)
	return archive, filepath.Join(cache, "debs"), err
}

// progressTo returns a function that logs what a download is at, once each.
func progressTo(log *slog.Logger) func(debian.Progress) {
	said := ""
	return func(p debian.Progress) {
		if p.What != said {
			log.Info("fetching", "what", p.What)
			said = p.What
		}
	}
}

// cacheDir is a directory of the lab's in the cache; the directory above it
// is there.
func cacheDir(name string) (string, error) {
	cache, err := boot.CacheDir()
	if err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	dir := filepath.Join(cache, "lab")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("lab: %w", err)
	}
	return filepath.Join(dir, name), nil
}

// unpackOnce returns dir, which fill fills if it does not exist. Two processes
// that need it at the same time fill it once, and what fill leaves half done
// is not seen.
func unpackOnce(ctx context.Context, dir string, fill func(dir string) error) (string, error) {
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	unlock, err := debian.Lock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	half := dir + ".part"
	if err := os.RemoveAll(half); err != nil {
		return "", err
	}
	if err := os.MkdirAll(half, 0o755); err != nil {
		return "", err
	}
	if err := fill(half); err != nil {
		return "", errors.Join(err, os.RemoveAll(half))
	}
	return dir, os.Rename(half, dir)
}

var versionLine = regexp.MustCompile(`version (\d+)\.`)

// qemuVersion returns the major version of the QEMU at path.
func qemuVersion(ctx context.Context, path string) (int, error) {
	out, err := exec.CommandContext(ctx, path, "--version").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("lab: %s --version: %w: %s", path, err, strings.TrimSpace(string(out)))
	}
	m := versionLine.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("lab: %s --version: no version in %q", path, out)
	}
	return strconv.Atoi(string(m[1]))
}
