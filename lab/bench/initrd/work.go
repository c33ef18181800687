package initrd

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"

	"warder/boot/kernelpkg"
)

// ModulesDir holds a guest's modules in the order in which they are loaded.
const ModulesDir = "/modules"

// modules are what a guest needs where its kernel has not built them in.
var modules = []string{"virtio_mmio", "virtio_blk", "vmw_vsock_virtio_transport", "virtio_net"}

// Work is an initramfs whose /init is the program in the file init, with the
// modules that it needs of kernel.
func Work(init string, kernel *kernelpkg.Package) ([]byte, error) {
	program, err := os.ReadFile(init)
	if err != nil {
		return nil, err
	}
	files := []file{{"init", program}, {ModulesDir[1:], nil}}
	for i, m := range kernel.Select(modules...) {
		data, err := os.ReadFile(m.Path)
		if err != nil {
			return nil, fmt.Errorf("module of the guest kernel: %w", err)
		}
		files = append(files, file{path.Join(ModulesDir[1:], fmt.Sprintf("%02d-%s", i, path.Base(m.Path))), data})
	}
	return archive(files...)
}

// Programs is an archive of files by their absolute paths, to be behind [Work].
func Programs(files map[string][]byte) ([]byte, error) {
	parts := make(map[string][]byte)
	for name, data := range files {
		parts[name[1:]] = data
		for dir := path.Dir(name[1:]); dir != "."; dir = path.Dir(dir) {
			parts[dir] = nil
		}
	}
	var all []file
	for _, name := range slices.Sorted(maps.Keys(parts)) { // directories first
		all = append(all, file{name, parts[name]})
	}
	return archive(all...)
}
