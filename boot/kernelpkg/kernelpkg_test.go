package kernelpkg

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"warder/boot"
	"warder/boot/expand"
	"warder/internal/oracle"
	"warder/internal/testkernel"
)

// cache makes an empty cache.
func cache(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("WARDER_CACHE", dir)
	return dir
}

func writeDeb(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kernel.deb")
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func install(t *testing.T, deb []byte) *Package {
	t.Helper()
	p, err := Install(t.Context(), writeDeb(t, deb), false)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func moduleNames(ms []Module) (names []string) {
	for _, m := range ms {
		names = append(names, m.Name)
	}
	return names
}

func TestInstall(t *testing.T) {
	for arch, kernel := range map[string]string{"amd64": "vmlinux", "arm64": "Image"} {
		t.Run(arch, func(t *testing.T) {
			cache(t)
			install(t, testkernel.KernelDeb(arch, "6.0-test"))
			p, err := Find(arch)
			if err != nil {
				t.Fatal(err)
			}
			if p.Arch != arch || p.Release != "6.0-test" || p.Version != "6.0.0-1" || filepath.Base(p.KernelPath) != kernel {
				t.Errorf("found %+v", p)
			}
			k, err := boot.Open(p.KernelPath, "")
			if err != nil || k.Arch != arch || k.Compression != "" {
				t.Errorf("kernel %+v, %v", k, err)
			}
			if _, err := boot.Open(p.VmlinuzPath, ""); err != nil {
				t.Error(err)
			}
			if config, err := os.ReadFile(p.ConfigPath); string(config) != "CONFIG_TEST=y\n" {
				t.Errorf("config %q, %v", config, err)
			}
			if d := cmp.Diff([]string{"virtio_mmio", "rng_core", "virtio_rng"}, moduleNames(p.Modules)); d != "" {
				t.Errorf("modules:\n%s", d)
			}
			if d := cmp.Diff([]string{"button"}, p.Builtin); d != "" {
				t.Errorf("built in:\n%s", d)
			}
			for _, m := range p.Modules {
				if content, err := os.ReadFile(m.Path); err != nil || !bytes.HasPrefix(content, []byte("\x7fELF")) {
					t.Errorf("%s: %v", m.Path, err)
				}
			}
		})
	}
}

func TestInstallAgain(t *testing.T) {
	cache(t)
	deb := writeDeb(t, testkernel.KernelDeb("amd64", "6.0-test"))
	first, err := Install(t.Context(), deb, false)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Install(t.Context(), deb, false)
	if err != nil || !second.Installed.Equal(first.Installed) {
		t.Errorf("installed again: %v", err)
	}
	if err := os.Remove(first.KernelPath); err != nil {
		t.Fatal(err)
	}
	if _, err := Find("amd64"); err == nil {
		t.Error("a package without its kernel is found")
	}
	third, err := Install(t.Context(), deb, false)
	if err != nil || !third.Installed.After(first.Installed) {
		t.Errorf("a package without its kernel is kept: %v", err)
	}
	forced, err := Install(t.Context(), deb, true)
	if err != nil || !forced.Installed.After(third.Installed) {
		t.Errorf("not installed again: %v", err)
	}
	if all, err := List(); err != nil || len(all) != 1 {
		t.Errorf("%d packages, %v", len(all), err)
	}
}

func TestFindNewest(t *testing.T) {
	cache(t)
	if _, err := Find("amd64"); err == nil || err.Error() != `no guest kernel for amd64: run "warder kernel pull --arch amd64"` {
		t.Errorf("nothing installed: %v", err)
	}
	install(t, testkernel.KernelDeb("amd64", "6.9-old"))
	install(t, testkernel.KernelDeb("amd64", "6.1-new"))
	install(t, testkernel.KernelDeb("arm64", "6.1-other"))
	p, err := Find("amd64")
	if err != nil || p.Release != "6.1-new" {
		t.Errorf("found %+v, %v", p, err)
	}
	all, err := List()
	if err != nil {
		t.Fatal(err)
	}
	var releases []string
	for _, p := range all {
		releases = append(releases, p.Release)
	}
	if d := cmp.Diff([]string{"6.1-other", "6.1-new", "6.9-old"}, releases); d != "" {
		t.Error(d)
	}
	if _, err := Find("../kernels/amd64"); err == nil {
		t.Error("a path is an architecture")
	}
}

// TestCacheMoves finds packages in a cache that was moved.
func TestCacheMoves(t *testing.T) {
	old := cache(t)
	install(t, testkernel.KernelDeb("amd64", "6.0-test"))
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.Rename(old, moved); err != nil {
		t.Fatal(err)
	}
	t.Setenv("WARDER_CACHE", moved)
	p, err := Find("amd64")
	if err != nil || !strings.HasPrefix(p.KernelPath, moved) || !strings.HasPrefix(p.Modules[0].Path, moved) {
		t.Errorf("found %+v, %v", p, err)
	}
}

func TestInstallRefuses(t *testing.T) {
	const control = "Package: x\nArchitecture: %\nVersion: 1\n"
	amd64, arm64 := strings.Replace(control, "%", "amd64", 1), strings.Replace(control, "%", "arm64", 1)
	vmlinuz := testkernel.File{Name: "boot/vmlinuz-1", Data: testkernel.BzImage(expand.Gzip, testkernel.ELF())}
	for name, c := range map[string]struct {
		deb  []byte
		want string
	}{
		"no package":         {[]byte("hello"), "no Debian package"},
		"other architecture": {testkernel.Deb(expand.Gzip, strings.Replace(control, "%", "riscv64", 1), vmlinuz), `"riscv64"`},
		"meta-package":       {testkernel.Deb(expand.Gzip, amd64), "no meta-package"},
		"two kernels":        {testkernel.Deb(expand.Gzip, amd64, vmlinuz, testkernel.File{Name: "boot/vmlinuz-2", Data: vmlinuz.Data}), "2 kernels"},
		"kernel for another": {testkernel.Deb(expand.Gzip, arm64, vmlinuz), "is for amd64, its package for arm64"},
		"no kernel inside":   {testkernel.Deb(expand.Gzip, amd64, testkernel.File{Name: "boot/vmlinuz-1", Data: make([]byte, 1000)}), "a file full of zeros"},
		"kernel is a link":   {testkernel.Deb(expand.Gzip, amd64, testkernel.File{Name: "boot/vmlinuz-1", Link: "/proc/self/exe"}), "0 kernels"},
		"vast module": {testkernel.Deb(expand.Gzip, amd64, vmlinuz,
			testkernel.File{Name: "lib/modules/1/kernel/virtio_mmio.ko", Data: make([]byte, maxModule+1)}), "more than 64 MiB"},
		"bad module": {testkernel.Deb(expand.Gzip, amd64, vmlinuz,
			testkernel.File{Name: "lib/modules/1/kernel/virtio_mmio.ko", Data: []byte("not a module")}), "virtio_mmio.ko"},
	} {
		dir := cache(t)
		_, err := Install(t.Context(), writeDeb(t, c.deb), false)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v; want it to say %q", name, err, c.want)
		}
		left, err := filepath.Glob(filepath.Join(dir, "kernels/*/*"))
		hidden, err2 := filepath.Glob(filepath.Join(dir, "kernels/*/.*"))
		if err != nil || err2 != nil || len(left)+len(hidden) > 0 {
			t.Errorf("%s: left behind: %q %q", name, left, hidden)
		}
	}
}

// A package must not have files of this machine read in its place.
func TestInstallFollowsNoLinks(t *testing.T) {
	cache(t)
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.WriteFile(elsewhere, testkernel.Module(""), 0o600); err != nil {
		t.Fatal(err)
	}
	p := install(t, testkernel.Deb(expand.Gzip, "Package: x\nArchitecture: amd64\nVersion: 1\n",
		testkernel.File{Name: "boot/vmlinuz-1", Data: testkernel.BzImage(expand.Gzip, testkernel.ELF())},
		testkernel.File{Name: "boot/config-1", Link: elsewhere},
		testkernel.File{Name: "lib/modules/1/modules.builtin", Link: "/dev/zero"},
		testkernel.File{Name: "lib/modules/1/kernel/virtio_mmio.ko", Link: elsewhere}))
	if len(p.Modules) != 0 || p.ConfigPath != "" {
		t.Errorf("modules %v, configuration %q", moduleNames(p.Modules), p.ConfigPath)
	}
}

func TestInstallInterrupted(t *testing.T) {
	dir := cache(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Install(ctx, writeDeb(t, testkernel.KernelDeb("amd64", "6.0-test")), false); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "kernels/*/*")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestRemoveStale clears what a killed installation left, not what another one
// works on.
func TestRemoveStale(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{".new-old": 2 * time.Hour, ".new-young": time.Minute, "kernel": 2 * time.Hour} {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	removeStale(dir)
	var left []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if d := cmp.Diff([]string{".new-young", "kernel"}, left); d != "" {
		t.Error(d)
	}
}

func TestSelect(t *testing.T) {
	p := &Package{Modules: []Module{
		{Name: "a"}, {Name: "b", Deps: []string{"a"}}, {Name: "c", Deps: []string{"b", "d", "in_kernel"}},
		{Name: "d", Deps: []string{"c"}}, // a circle, which no kernel has
	}}
	for _, c := range []struct{ names, want []string }{
		{nil, nil},
		{[]string{"b"}, []string{"a", "b"}},
		{[]string{"b", "a", "unknown"}, []string{"a", "b"}},
		{[]string{"c"}, []string{"a", "b", "d", "c"}},
	} {
		if d := cmp.Diff(c.want, moduleNames(p.Select(c.names...))); d != "" {
			t.Errorf("%q:\n%s", c.names, d)
		}
	}
}

// TestPulled looks at the kernel that this machine's tests use, if it is there.
func TestPulled(t *testing.T) {
	p, err := Find(runtime.GOARCH)
	if err != nil {
		oracle.Missing(t, err.Error())
	}
	k, err := boot.Open(p.KernelPath, "")
	if err != nil {
		t.Fatal(err)
	}
	if want := "Linux version " + p.Release + " "; !strings.HasPrefix(k.Version(), want) {
		t.Errorf("version %q, want %q", k.Version(), want)
	}
	names := moduleNames(p.Select(Guest...))
	for _, name := range Guest[:5] {
		if !slices.Contains(names, name) && !slices.Contains(p.Builtin, name) {
			t.Errorf("no module %s in %q", name, names)
		}
	}
}
