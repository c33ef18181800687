package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// testkvm is the package through which tests have KVM: they import it, or a
// package that does.
const testkvm = "warder/internal/testkvm"

// A goPackage is a package as go list describes it.
type goPackage struct {
	ImportPath   string
	Dir          string
	Module       struct{ Dir string }
	Deps         []string
	TestImports  []string
	XTestImports []string
}

// needKVM returns the packages among those that patterns name whose tests are
// for the lab.
func needKVM(ctx context.Context, arch string, patterns []string) ([]goPackage, error) {
	everything, err := listPackages(ctx, arch, []string{"warder/..."})
	if err != nil {
		return nil, err
	}
	leads := map[string]bool{testkvm: true} // to KVM
	for _, p := range everything {
		leads[p.ImportPath] = leads[p.ImportPath] || slices.Contains(p.Deps, testkvm)
	}
	named, err := listPackages(ctx, arch, patterns)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(named, func(p goPackage) bool {
		leadsThere := func(imported string) bool { return leads[imported] }
		return !slices.ContainsFunc(p.TestImports, leadsThere) && !slices.ContainsFunc(p.XTestImports, leadsThere)
	}), nil
}

// listPackages lists the packages that patterns name, as they are for arch.
func listPackages(ctx context.Context, arch string, patterns []string) ([]goPackage, error) {
	args := append([]string{"list", "-json=ImportPath,Dir,Module,Deps,TestImports,XTestImports"}, patterns...)
	out, err := goTool(ctx, arch, args...).Output()
	if err != nil {
		return nil, commandError("go list", err)
	}
	var list []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		list = append(list, p)
	}
}

// buildTest compiles a package's tests to a static binary.
func buildTest(ctx context.Context, arch string, p goPackage, cover bool, to string) error {
	args := []string{"test", "-c", "-trimpath", "-ldflags=-s -w", "-o", to}
	if cover {
		args = append(args, "-cover", "-coverpkg=warder/...")
	}
	out, err := goTool(ctx, arch, append(args, p.ImportPath)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("compile the tests of %s for %s: %w\n%s", p.ImportPath, arch, err, out)
	}
	return nil
}

// buildInit compiles the outer machine's /init.
func buildInit(ctx context.Context, arch, to string) error {
	out, err := goTool(ctx, arch, "build", "-trimpath", "-ldflags=-s -w", "-o", to, "warder/lab/outer/init").CombinedOutput()
	if err != nil {
		return fmt.Errorf("compile /init for %s: %w\n%s", arch, err, out)
	}
	return nil
}

func goTool(ctx context.Context, arch string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	return cmd
}

func commandError(what string, err error) error {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%s: %w\n%s", what, err, e.Stderr)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// testName is a name for a package's files: devices/virtio/blk -> devices-virtio-blk.
func testName(p goPackage) string {
	return strings.ReplaceAll(strings.TrimPrefix(p.ImportPath, "warder/"), "/", "-")
}

// guestDir is where a package's directory is in the outer machine.
func guestDir(p goPackage) (string, error) {
	rel, err := filepath.Rel(p.Module.Dir, p.Dir)
	if err != nil {
		return "", err
	}
	return "/src/warder/" + filepath.ToSlash(rel), nil
}
