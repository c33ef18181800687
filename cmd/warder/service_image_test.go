package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"warder/boot/kernelpkg"
)

// withoutPmem makes a cache directory in which the guest kernel has no module for files as
// memory, and tells as which block device an image is there then. A tuned kernel, which
// has no modules, has it all the same.
func withoutPmem(t *testing.T) (cache, as string) {
	t.Helper()
	p, err := kernelpkg.Default(runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	cache = t.TempDir()
	dir := filepath.Join(cache, "kernels", p.Arch, filepath.Base(p.Dir))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		t.Fatal(err)
	}
	const index = "kernel.json"
	for _, e := range entries {
		if e.Name() != index {
			if err := os.Symlink(filepath.Join(p.Dir, e.Name()), filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	text, err := os.ReadFile(filepath.Join(p.Dir, index))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	modules, _ := fields["modules"].([]any)
	fields["modules"] = slices.DeleteFunc(modules, func(m any) bool { return m.(map[string]any)["name"] == "virtio_pmem" })
	if text, err = json.Marshal(fields); err == nil {
		err = os.WriteFile(filepath.Join(dir, index), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if p.Flavour == kernelpkg.Tuned {
		return cache, "pmem0"
	}
	return cache, "vda"
}
