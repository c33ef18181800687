package kernelpkg

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"warder/boot/debian"
)

// Host is the flavour of the kernel for a machine that runs warder on its bare
// metal: Debian's for every machine, as the cloud kernel has no drivers for one.
const Host Flavour = "host"

// Machine are the modules that a machine may want which runs warder on its bare
// metal: virtualisation, what its boot medium and its buttons hang on, and the
// file systems of the medium.
var Machine = slices.Concat(Lab, []string{
	"virtio_mmio", "virtio_pci", "virtio_blk", "virtio_scsi",
	"nvme", "ahci", "sd_mod", "xhci_pci", "ehci_pci", "usb_storage", "uas",
	"mmc_block", "sdhci_pci", "sdhci_acpi", "sdhci_iproc", "bcm2835", "sdhci_of_arasan", "sdhci_of_dwcmshc", "dw_mmc_rockchip", "meson_gx_mmc",
	"pcie_brcmstb", "reset_raspberrypi", "phy_generic", "gpio_keys",
	"vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8", "ext4",
	"evdev", "button",
})

var forMachines = purpose{flavour: Host, prefix: "host-", wanted: func() []string { return Machine }}

// InstallHost is Install for the kernel of a machine.
func InstallHost(ctx context.Context, path string, force bool) (*Package, error) {
	return forMachines.install(ctx, path, force)
}

// PullHost is Pull for the kernel of a machine.
func PullHost(ctx context.Context, arch string, force bool, progress func(debian.Progress)) (*Package, error) {
	return forMachines.pull(ctx, arch, force, progress)
}

// isDeviceTree tells the device trees of Raspberry Pi boards by their name in a
// package, usr/lib/linux-image-RELEASE/broadcom/bcm2711-rpi-4-b.dtb. Theirs is
// the firmware that is not content with those it has.
func isDeviceTree(name string) bool {
	return strings.HasPrefix(name, "usr/lib/linux-image-") && path.Base(path.Dir(name)) == "broadcom" &&
		strings.Contains(path.Base(name), "-rpi-") && path.Ext(name) == ".dtb"
}

// installDeviceTrees takes the device trees from the unpacked package.
func (p *Package) installDeviceTrees(unpacked, dir string) error {
	found, err := filepath.Glob(filepath.Join(unpacked, "usr/lib/linux-image-*/broadcom"))
	if err != nil || len(found) == 0 || p.Flavour != Host {
		return err
	}
	if len(found) > 1 {
		return errors.New("device trees of more than one kernel in the package")
	}
	p.DeviceTrees = "dtb"
	return os.Rename(found[0], filepath.Join(dir, p.DeviceTrees))
}
