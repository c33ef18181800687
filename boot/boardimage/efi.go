package boardimage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"warder/boot"
	"warder/boot/debian"
)

// efiNames are what firmware starts from a medium without being told more, and
// the stub for it: UEFI specification, section 3.5.1.1.
var efiNames = map[string]struct{ program, stub string }{
	"amd64": {"BOOTX64.EFI", "linuxx64.efi.stub"},
	"arm64": {"BOOTAA64.EFI", "linuxaa64.efi.stub"},
}

// writeEFI writes a unified kernel image, one EFI program with everything in it
// (https://uapi-group.org/specifications/specs/unified_kernel_image/): firmware
// passes no command line to what it starts by itself, so that a kernel alone
// would not find its initial RAM disk.
func (c *Config) writeEFI(dir string) error {
	stub, err := os.ReadFile(c.Stub)
	if err != nil {
		return fmt.Errorf("EFI stub: %w", err)
	}
	initrd := filepath.Join(dir, "initrd.part")
	defer os.Remove(initrd)
	if err := c.writeInitramfs(initrd); err != nil {
		return fmt.Errorf("initial RAM disk: %w", err)
	}
	linux, err := os.ReadFile(c.Host.VmlinuzPath)
	if err != nil {
		return err
	}
	ram, err := os.ReadFile(initrd)
	if err != nil {
		return err
	}
	program, err := addSections(stub,
		section{".osrel", fmt.Appendf(nil, "ID=warder\nNAME=warder\nVERSION_ID=%s\n", c.Host.Release)},
		section{".cmdline", []byte(c.commandLine())},
		section{".linux", linux},
		section{".initrd", ram},
	)
	if err != nil {
		return fmt.Errorf("EFI stub %s: %w", c.Stub, err)
	}
	to := filepath.Join(dir, "EFI", "BOOT", efiNames[c.Arch].program)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, program, 0o644)
}

// FetchStub returns the EFI stub for arch, which it gets from Debian's packages
// first if it is not in the cache: the few kilobytes that hand a kernel what
// stands beside it in the same file. Nothing else of systemd is on the machine.
func FetchStub(ctx context.Context, arch string, progress func(debian.Progress)) (string, error) {
	const pkg = "systemd-boot-efi"
	cache, err := boot.CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "efi")
	stub := filepath.Join(dir, efiNames[arch].stub)
	if _, err := os.Stat(stub); err == nil {
		return stub, nil
	}
	files, err := debian.Fetch(ctx, debian.Request{
		Packages: []string{pkg}, Arch: arch, StateDir: filepath.Join(cache, "apt"), Dir: filepath.Join(cache, "packages"), Progress: progress,
	})
	if err != nil {
		return "", fmt.Errorf("EFI stub: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(dir, ".new-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	name := "usr/lib/systemd/boot/efi/" + efiNames[arch].stub
	if err := debian.Unpack(files[0], tmp, func(n string) bool { return n == name }); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(tmp, name), stub); err != nil {
		return "", fmt.Errorf("package %s: %w", pkg, err)
	}
	return stub, os.Remove(files[0])
}
