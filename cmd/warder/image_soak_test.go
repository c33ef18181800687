//go:build soak

package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"warder/boot/boardimage"
	"warder/boot/debian"
	"warder/boot/kernelpkg"
	"warder/internal/oracle"
	"warder/lab"
)

// TestImageBootsFromDisk has UEFI firmware start a machine from a disk, of which it
// takes its configuration, too.
func TestImageBootsFromDisk(t *testing.T) {
	for arch, c := range map[string]struct {
		board, firmware, pkg string
		disk                 []string
	}{
		"amd64": {"amd64", "/usr/share/ovmf/OVMF.fd", "ovmf", []string{"-device", "ahci,id=ahci", "-device", "ide-hd,bus=ahci.0,drive=disk"}},
		"arm64": {"arm64-gicv3", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd", "qemu-efi-aarch64", []string{"-device", "nvme,serial=1,drive=disk"}},
	} {
		t.Run(arch, func(t *testing.T) {
			firmware := oracle.File(t, c.firmware, "apt install "+c.pkg)
			prepared, err := lab.Prepare(t.Context(), lab.Config{Arch: arch, Init: "/init", Kernel: "kernel"})
			if err != nil {
				oracle.Missing(t, "an emulator, which make deps gets: "+err.Error())
			}
			host, err := kernelpkg.PullHost(t.Context(), arch, false, func(debian.Progress) {})
			if err != nil {
				oracle.Missing(t, "the kernel for all machines: "+err.Error())
			}
			guest, err := kernelpkg.Find(arch)
			if err != nil {
				oracle.Missing(t, err.Error())
			}
			stub, err := boardimage.FetchStub(t.Context(), arch, func(debian.Progress) {})
			if err != nil {
				oracle.Missing(t, err.Error())
			}
			dir := t.TempDir()
			image, disk := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
			cfg := boardimage.Config{
				Arch: arch, Layout: boardimage.EFI, Warder: buildWarder(t, dir, arch), Host: host, Guest: guest, Stub: stub,
				HostConfig: []byte("vms: [] # not what is on the disk\n"), Built: time.Now(), Cmdline: boardCmdline,
			}
			if arch == "arm64" {
				cfg.Cmdline += " console=ttyAMA0"
			}
			if err := boardimage.Write(image, cfg); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(image, boardimage.ConfigFile), []byte(boardConfig), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := boardimage.WriteDisk(disk, image, boardimage.EFI, cfg.Built); err != nil {
				t.Fatal(err)
			}
			b := boards[c.board]
			runBoard(t, prepared.QEMU, slices.Concat(b.machine, c.disk, []string{
				"-bios", firmware, "-drive", "if=none,id=disk,format=raw,snapshot=on,file=" + disk,
			}), b.said)
		})
	}
}
