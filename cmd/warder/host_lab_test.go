package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/internal/testimage"
	"warder/supervisor/declaration"
)

// TestHostInLab reads what inLab makes by the command's own flags: the same images and
// what they are made of are there.
func TestHostInLab(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("WARDER_CACHE", filepath.Join(dir, "cache"))
	t.Setenv("TOKEN", "of here")
	for name, b := range map[string][]byte{
		"root/bin/serve": []byte("a program"), "disk.img": testimage.Disk(t), "kept.img": testimage.Ext4(t),
		"db.key": []byte("a secret"), "access.cedar": []byte("permit (principal, action, resource);"),
		"host.yaml": []byte(`
access: {vms: true, policies: access.cedar}
secrets: {db: 'file:db.key', token: 'env:TOKEN'}
vms:
  - {name: a, image: 'dir:root', overlay: kept.img, command: [serve]}
services:
  - {name: b, image: 'dir:root', command: [serve]}
  - {name: c, image: 'disk:disk.img:2', command: [serve]}
  - {name: d}
`),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := hostFlags{config: filepath.Join(dir, "host.yaml"), output: "text", lab: "arm64"}
	cfg, err := f.load()
	if err != nil {
		t.Fatal(err)
	}
	inside, err := f.inLab(t.Context(), cfg, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"TOKEN=of here"}, inside.env); d != "" {
		t.Errorf("environment (-want +got):\n%s", d)
	}
	for _, name := range []string{"host.yaml", "access.cedar", "db.key", "disk.img", "kept.img"} {
		if !slices.Contains(inside.files, filepath.Join(dir, name)) {
			t.Errorf("%s is not among %q", name, inside.files)
		}
	}
	if slices.Contains(inside.files, filepath.Join(dir, "root")) {
		t.Errorf("what an image was made of is among %q", inside.files)
	}
	cmd := hostCommand()
	if err := cmd.ParseFlags(inside.args[1:]); err != nil {
		t.Fatal(err)
	}
	there := hostFlags{config: cmd.Flag("config").Value.String(), lab: cmd.Flag("lab").Value.String()}
	if there.images, err = cmd.Flags().GetStringArray("image"); err != nil {
		t.Fatal(err)
	}
	if cfg, err = there.load(); err != nil {
		t.Fatal(err)
	}
	made := cfg.VMs[0].Image
	image, err := declaration.ParseImage(made)
	if err != nil || image.Kind != declaration.ImageMade || !slices.Contains(inside.files, image.Name) {
		t.Errorf("the image of a is %s (%v), and files are %q", made, err, inside.files)
	}
	var got []string
	for _, v := range cfg.Services {
		got = append(got, v.Image)
	}
	if d := cmp.Diff([]string{made, "disk:" + filepath.Join(dir, "disk.img:2"), ""}, got); d != "" {
		t.Errorf("images of services (-want +got):\n%s", d)
	}
}

func TestSetImages(t *testing.T) {
	for s, want := range map[string]string{
		"a":            "give NAME=IMAGE",
		"b=dir:/x":     `no service "b"`,
		"a=/x":         "of what kind",
		"a=disk:x:bad": "number of a partition",
	} {
		c := hostConfig{VMs: []hostVM{{Service: declaration.Service{Name: "a"}}}}
		if err := c.setImages([]string{s}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error that says %q", s, err, want)
		}
	}
}

func TestLabMemory(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct{ files, available, want uint64 }{
		{0, gib, 2 * gib}, // what is usual is tried in any case
		{256 << 20, gib, 2 * gib},
		{gib, 8 * gib, 2*gib + 2*(gib-256<<20)},
		{gib, 3 * gib, 0},
	} {
		got, err := labMemory(c.files, c.available)
		if got != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%d bytes of files, %d available: %d, %v, want %d", c.files, c.available, got, err, c.want)
		}
	}
}
