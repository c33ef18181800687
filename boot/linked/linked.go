// Package linked finds the files that programs need to run elsewhere: the
// programs, what they are linked to, and their dynamic linkers.
package linked

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// triples are Debian's names of architectures, by GOARCH.
var triples = map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}

// Files reads programs of a Debian system of this architecture, with what they are
// linked to. They are given by their absolute paths.
func Files(arch string, programs ...string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for queue := slices.Clone(programs); len(queue) > 0; queue = queue[1:] {
		path := queue[0]
		if files[path] != nil {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files[path] = data
		needs, err := needed(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, name := range needs {
			at, ok := find(arch, name)
			if !ok {
				return nil, fmt.Errorf("%s is linked to %s, which is not here", path, name)
			}
			queue = append(queue, at)
		}
	}
	return files, nil
}

// needed are the libraries of a program, and its linker.
func needed(data []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	names, err := f.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		name := make([]byte, p.Filesz)
		if _, err := p.ReadAt(name, 0); err != nil {
			return nil, err
		}
		names = append(names, string(bytes.TrimRight(name, "\x00")))
	}
	return names, nil
}

func find(arch, name string) (path string, ok bool) {
	if filepath.IsAbs(name) {
		return name, true
	}
	for _, dir := range []string{"/lib/" + triples[arch], "/usr/lib/" + triples[arch], "/lib", "/lib64"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, true
		}
	}
	return "", false
}
