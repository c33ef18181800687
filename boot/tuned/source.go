package tuned

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"warder/boot/debian"
)

// sourcePackage has the source of the release that warder is tested with, with
// Debian's security fixes.
const sourcePackage = "linux-source-6.12"

// source is an unpacked source tree.
type source struct {
	dir     string
	version string // of the Debian package
}

// fetchSource brings Debian's source into the request's directory.
func fetchSource(ctx context.Context, req Request, cache string) (source, error) {
	archive, err := debian.Open(ctx, debian.Config{StateDir: filepath.Join(cache, "apt"), Progress: req.Progress})
	if err != nil {
		return source{}, err
	}
	control, err := archive.Show(ctx, sourcePackage)
	if err != nil {
		return source{}, fmt.Errorf("%s: %w", sourcePackage, err)
	}
	s := source{version: control["Version"]}
	if s.version == "" || strings.Contains(s.version, "/") {
		return source{}, fmt.Errorf("%s has the version %q", sourcePackage, s.version)
	}
	s.dir = filepath.Join(req.Dir, "source-"+s.version)
	if _, err := os.Stat(s.dir); err == nil {
		return s, nil // of an earlier build
	}
	files, err := archive.Fetch(ctx, req.Dir, sourcePackage)
	if err != nil {
		return source{}, err
	}
	defer os.Remove(files[0])
	req.Progress(debian.Progress{What: "unpack " + sourcePackage})
	return s, unpack(ctx, files[0], s.dir)
}

// unpack unpacks the source tree in the package at path, which appears in dir
// when it is whole.
func unpack(ctx context.Context, path, dir string) error {
	half := dir + ".part"
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	defer os.RemoveAll(half)
	tarball := "usr/src/" + sourcePackage + ".tar.xz"
	if err := debian.Unpack(path, half, func(name string) bool { return name == tarball }); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "tar", "-C", half, "-xJf", filepath.Join(half, tarball)).CombinedOutput()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("tar: %w: %s", err, tail(string(out)))
	}
	return os.Rename(filepath.Join(half, sourcePackage), dir)
}
