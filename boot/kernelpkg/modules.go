package kernelpkg

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"warder/boot/expand"
)

// maxModule bounds a module, packed and expanded, in bytes.
const maxModule = 64 << 20

// readFile reads a file of a package, of at most maxModule bytes.
func readFile(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxModule+1))
	if err == nil && len(data) > maxModule {
		err = fmt.Errorf("%s: more than %d MiB", filepath.Base(file), maxModule>>20)
	}
	return data, err
}

// moduleName is the name under which the kernel knows the module in a file such
// as virtio-rng.ko.xz.
func moduleName(file string) string {
	name, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func isModule(file string) bool {
	base := path.Base(file)
	return strings.HasSuffix(base, ".ko") || strings.Contains(base, ".ko.")
}

// inLoadOrder puts names and what they depend on into an order in which each
// comes behind its dependencies. deps gives false for a name that there is no
// module for.
func inLoadOrder(names []string, deps func(name string) ([]string, bool)) (order []string) {
	seen := make(map[string]bool)
	var visit func(name string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		ds, ok := deps(name)
		if !ok {
			return
		}
		for _, d := range ds {
			visit(d)
		}
		order = append(order, name)
	}
	for _, name := range names {
		visit(name)
	}
	return order
}

// installModules expands the wanted modules of the package unpacked in from, and
// what they depend on, into dir. A package has no modules.dep, which is made at
// installation; the modules themselves name what they need.
func installModules(from, dir string, wanted []string) (modules []Module, builtin []string, err error) {
	files := make(map[string]string)
	inKernel := make(map[string]bool)
	err = filepath.WalkDir(from, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || d.IsDir():
			return err
		case isModule(file):
			files[moduleName(file)] = file
		case d.Name() == "modules.builtin":
			return readBuiltin(file, inKernel)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for _, name := range wanted {
		if inKernel[name] {
			builtin = append(builtin, name)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	deps := make(map[string][]string)
	order := inLoadOrder(wanted, func(name string) ([]string, bool) {
		file, ok := files[name]
		if !ok || err != nil {
			return nil, false
		}
		deps[name], err = installModule(file, filepath.Join(dir, name+".ko"))
		return deps[name], true
	})
	if err != nil {
		return nil, nil, err
	}
	for _, name := range order {
		modules = append(modules, Module{Name: name, Path: filepath.Join(filepath.Base(dir), name+".ko"), Deps: deps[name]})
	}
	return modules, builtin, nil
}

// readBuiltin adds the modules that a kernel has inside.
func readBuiltin(file string, names map[string]bool) error {
	text, err := readFile(file)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		names[moduleName(strings.TrimSpace(line))] = true
	}
	return nil
}

// installModule expands the module in file to path and returns the names of the
// modules it needs.
func installModule(file, path string) ([]string, error) {
	packed, err := readFile(file)
	if err != nil {
		return nil, err
	}
	data := packed
	if m := expand.Detect(packed); m != "" {
		var b bytes.Buffer
		if _, err := expand.Copy(&b, m, bytes.NewReader(packed), maxModule); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
		data = b.Bytes()
	}
	deps, err := moduleDeps(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
	}
	return deps, os.WriteFile(path, data, 0o644)
}

// moduleDeps reads "depends=a,b" from a module's section .modinfo, strings with
// zeros behind them.
func moduleDeps(r io.ReaderAt) ([]string, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil || s.Size > maxModule {
		return nil, errors.New("no module information: not a kernel module")
	}
	info, err := s.Data()
	if err != nil {
		return nil, err
	}
	var deps []string
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		list, ok := bytes.CutPrefix(entry, []byte("depends="))
		if !ok {
			continue
		}
		for name := range strings.SplitSeq(string(list), ",") {
			if name != "" {
				deps = append(deps, moduleName(name))
			}
		}
	}
	return deps, nil
}
