package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"warder/boot/debian"
)

// passedOver are dependencies that only serve the installation of packages,
// which are unpacked here and not installed.
var passedOver = []string{"adduser", "debconf", "dpkg", "init-system-helpers", "install-info", "lsb-base", "perl", "perl-base", "ucf"}

// unpackPackages completes cfg with the directory that holds its packages and
// all that they depend on, fetched and unpacked once.
func (cfg Config) unpackPackages(ctx context.Context) (Config, error) {
	if len(cfg.Packages) == 0 {
		return cfg, nil
	}
	names := slices.Compact(slices.Sorted(slices.Values(cfg.Packages)))
	sum := sha256.Sum256([]byte(strings.Join(names, "\n")))
	dir, err := cacheDir("packages-" + cfg.Arch + "-" + hex.EncodeToString(sum[:6]))
	if err != nil {
		return cfg, err
	}
	root, err := unpackOnce(ctx, dir, func(dir string) error { return fetchClosure(ctx, cfg.Log, cfg.Arch, names, dir) })
	if err != nil {
		return cfg, fmt.Errorf("lab: packages %s: %w", strings.Join(names, ", "), err)
	}
	cfg.roots = append(cfg.roots, root)
	cfg.Packages = nil // done
	return cfg, nil
}

// fetchClosure unpacks packages and what they depend on into dir.
func fetchClosure(ctx context.Context, log *slog.Logger, arch string, names []string, dir string) error {
	archive, debs, err := openArchive(ctx, log, debian.Config{Arch: arch})
	if err != nil {
		return err
	}
	all, err := closure(names, func(name string) (map[string]string, error) { return archive.Show(ctx, name) })
	if err != nil {
		return err
	}
	files, err := archive.Fetch(ctx, debs, all...)
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := debian.Unpack(file, dir, useful); err != nil {
			return err
		}
	}
	return nil
}

// useful tells what programs need from what people read.
func useful(name string) bool {
	for _, dir := range []string{"usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/lintian/", "usr/share/bash-completion/"} {
		if strings.HasPrefix(name, dir) {
			return false
		}
	}
	return true
}

// closure returns names and what they depend on, as show describes packages.
// A dependency that is no real package is passed over: nothing says which of
// those that provide it would do.
func closure(names []string, show func(name string) (map[string]string, error)) ([]string, error) {
	var all []string
	for queue := slices.Clone(names); len(queue) > 0; queue = queue[1:] {
		name := queue[0]
		if slices.Contains(all, name) || slices.Contains(passedOver, name) {
			continue
		}
		control, err := show(name)
		if errors.Is(err, debian.ErrNotFound) && !slices.Contains(names, name) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, name)
		queue = append(queue, debian.Depends(control)...)
	}
	return all, nil
}
