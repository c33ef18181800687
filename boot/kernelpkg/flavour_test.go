package kernelpkg

import (
	"os"
	"path/filepath"
	"testing"

	"warder/boot"
	"warder/boot/expand"
	"warder/internal/testkernel"
)

// built installs a tuned kernel.
func built(t *testing.T, arch, recipe string) *Package {
	t.Helper()
	dir := t.TempDir()
	b := Built{
		Arch: arch, Release: "6.0-tuned", Version: "6.0-1", Recipe: recipe,
		Kernel: filepath.Join(dir, "image"), Config: filepath.Join(dir, ".config"),
	}
	image := testkernel.BzImage(expand.Zstd, testkernel.ELF())
	if arch == "arm64" {
		image = testkernel.Image()
	}
	for path, data := range map[string][]byte{b.Kernel: image, b.Config: []byte("CONFIG_TUNED=y\n")} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p, err := InstallBuilt(b)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestInstallBuilt(t *testing.T) {
	for arch, kernel := range map[string]string{"amd64": "vmlinux", "arm64": "Image"} {
		cache(t)
		p := built(t, arch, "r")
		if p.Flavour != Tuned || p.Release != "6.0-tuned" || p.Recipe != "r" || filepath.Base(p.KernelPath) != kernel || len(p.Modules) != 0 {
			t.Errorf("%s: %+v", arch, p)
		}
		if k, err := boot.Open(p.KernelPath, ""); err != nil || k.Arch != arch || k.Compression != "" {
			t.Errorf("%s: kernel %+v, %v", arch, k, err)
		}
		if config, err := os.ReadFile(p.ConfigPath); err != nil || string(config) != "CONFIG_TUNED=y\n" {
			t.Errorf("%s: config %q, %v", arch, config, err)
		}
		if again := built(t, arch, "r"); again.Dir != p.Dir {
			t.Errorf("%s: the same kernel is in %s and %s", arch, p.Dir, again.Dir)
		}
	}
	if _, err := InstallBuilt(Built{Arch: "riscv64"}); err == nil {
		t.Error("a kernel for riscv64 was installed")
	}
}

func TestDefault(t *testing.T) {
	cache(t)
	t.Setenv(Variable, "")
	if p, err := Default("amd64"); err == nil || err.Error() != `no guest kernel for amd64: run "warder kernel pull --arch amd64"` {
		t.Errorf("nothing installed: %+v, %v", p, err)
	}
	want := func(find func(string) (*Package, error), f Flavour) {
		t.Helper()
		if p, err := find("amd64"); err != nil || p.Flavour != f {
			t.Errorf("found %+v, %v; want the flavour %s", p, err, f)
		}
	}
	install(t, testkernel.KernelDeb("amd64", "6.0-test"))
	want(Default, Debian)
	t.Setenv(Variable, "tuned")
	if _, err := Default("amd64"); err == nil || err.Error() != `no tuned guest kernel for amd64: run "warder kernel build --arch amd64"` {
		t.Errorf("no tuned kernel installed: %v", err)
	}
	t.Setenv(Variable, "")
	built(t, "amd64", "r")
	want(Default, Tuned)
	want(Find, Debian)
	t.Setenv(Variable, "debian")
	want(Default, Debian)
	t.Setenv(Variable, "plain")
	if p, err := Default("amd64"); err == nil {
		t.Errorf("flavour plain: %+v", p)
	}
}
