package supervisor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"warder/boot/kernelpkg"
	"warder/internal/testkernel"
)

// TestAsDisk has kernels that know more or less of what images need.
func TestAsDisk(t *testing.T) {
	t.Setenv("WARDER_CACHE", t.TempDir())
	pkg := func(modules ...string) *kernelpkg.Package { // its configuration has what is built in
		p := &kernelpkg.Package{}
		for _, m := range modules {
			p.Modules = append(p.Modules, kernelpkg.Module{Name: m})
		}
		return p
	}
	image, raw := Root{Path: "root.erofs"}, Root{Path: "disk.img", FileSystem: "ext4"}
	kept := image
	kept.Disk = "written.img"
	for name, c := range map[string]struct {
		root    Root
		builtin []string
		pkg     *kernelpkg.Package
		disk    bool
		lacks   string
	}{
		"all built in":              {image, []string{"virtio_pmem", "nd_pmem", "erofs", "overlay"}, nil, false, ""},
		"all modules":               {image, nil, pkg("virtio_pmem", "nd_pmem", "erofs", "overlay"), false, ""},
		"of both":                   {image, []string{"erofs", "overlay"}, pkg("virtio_pmem", "nd_pmem"), false, ""},
		"no pmem":                   {image, []string{"virtio_blk", "erofs", "overlay"}, nil, true, ""},
		"half of pmem":              {image, []string{"virtio_pmem", "virtio_blk", "erofs", "overlay"}, nil, true, ""},
		"a name inside another":     {image, []string{"virtio_pmem_x", "nd_pmem", "virtio_blk", "erofs", "overlay"}, nil, true, ""},
		"a package without pmem":    {image, []string{"virtio_blk", "overlay"}, pkg("erofs"), true, ""},
		"a package without EROFS":   {image, []string{"virtio_blk", "overlay"}, pkg(), true, "erofs"},
		"neither pmem nor disks":    {image, []string{"erofs", "overlay"}, nil, true, "virtio_blk"},
		"no EROFS":                  {image, []string{"virtio_pmem", "nd_pmem", "overlay"}, nil, false, "erofs"},
		"no overlay":                {image, []string{"virtio_pmem", "nd_pmem", "erofs"}, nil, false, "overlay"},
		"what is written on a disk": {kept, []string{"virtio_pmem", "nd_pmem", "erofs", "overlay", "virtio_blk", "ext4"}, nil, false, ""},
		"that without ext4":         {kept, []string{"virtio_pmem", "nd_pmem", "erofs", "overlay", "virtio_blk"}, nil, false, "ext4"},
		"a disk":                    {raw, []string{"virtio_pmem", "nd_pmem", "overlay", "virtio_blk", "ext4"}, nil, true, ""},
		"a disk without its own":    {raw, []string{"virtio_pmem", "nd_pmem", "erofs", "overlay", "virtio_blk"}, nil, true, "ext4"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "Image")
			if err := os.WriteFile(file, append(testkernel.Image(), "\x00"+strings.Join(c.builtin, "\x00")+"\x00"...), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.pkg != nil {
				c.pkg.ConfigPath = filepath.Join(t.TempDir(), "config")
				config := "# CONFIG_VIRTIO_PMEM=y\nCONFIG_EROFS_FS=m\n"
				for _, name := range c.builtin {
					config += symbols[name] + "=y\n"
				}
				if err := os.WriteFile(c.pkg.ConfigPath, []byte(config), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // what was found is remembered
				disk, err := c.root.asDisk(kernel{file, c.pkg})
				if disk != c.disk || (err == nil) != (c.lacks == "") || err != nil && !strings.Contains(err.Error(), "has no "+c.lacks+",") {
					t.Errorf("as a disk: %v, %v, want %v, without %q", disk, err, c.disk, c.lacks)
				}
			}
		})
	}
}
