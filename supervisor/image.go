package supervisor

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"

	"warder/guestinit"
	"warder/guestinit/initramfs"
)

// guestModules are what a service VM's kernel loads, where it has not built
// them in: the way to its devices first, then those of which it waits for
// none. Their order is the order of loading.
var guestModules = []string{"virtio_mmio", "vmw_vsock_virtio_transport", "virtio_blk", "virtio_rng", "evdev", "button", "virtio_balloon"}

// watchdogModule drives the watchdog that a machine of the architecture has.
var watchdogModule = map[string]string{"amd64": "wdat_wdt", "arm64": "sp805_wdt"}

// modules are what the VM's kernel loads.
func (s Spec) modules() []string {
	names := slices.Clone(guestModules)
	if len(s.Nets) > 0 {
		names = append(names, "virtio_net")
	}
	if len(s.Pmems) > 0 || s.Root.Path != "" {
		names = append(names, pmemDrivers...)
		names = append(names, erofs)
	}
	if s.Root.Path != "" {
		names = append(names, overlayfs)
	}
	if s.MemoryMax > s.Memory {
		names = append(names, "virtio_mem")
	}
	if s.Watchdog != "" {
		names = append(names, watchdogModule[runtime.GOARCH])
	}
	return names
}

// initPath is where PID 1 is beside a foreign user land.
const initPath = "/.warder/init"

// image is what a guest boots from.
type image struct {
	kernel  string
	initrd  [][]byte
	cmdline string
	// rootAsDisk says that the guest has the file system of its commands as a disk.
	rootAsDisk bool
}

func buildImage(s Spec) (image, error) {
	img := image{kernel: s.Kernel}
	var config guestinit.Config
	var files []guestinit.File

	pkg, err := findKernel(s.Kernel)
	if err != nil {
		return img, err
	}
	if pkg != nil {
		img.kernel = pkg.KernelPath
		for _, m := range pkg.Select(s.modules()...) {
			data, err := os.ReadFile(m.Path)
			if err != nil {
				return img, fmt.Errorf("module of the guest kernel: %w", err)
			}
			p := path.Join(guestinit.ModuleDir, filepath.Base(m.Path))
			config.Modules = append(config.Modules, p)
			files = append(files, guestinit.File{Path: p, Mode: 0o644, Data: data})
		}
	}

	if s.Root.Path != "" {
		if img.rootAsDisk, err = s.Root.asDisk(kernel{img.kernel, pkg}); err != nil {
			return img, err
		}
	}
	img.cmdline = cmdline(s)
	files = append(files, s.Files...)
	switch {
	case s.Bare:
	case s.Initrd == "":
		base, err := initramfs.Base()
		if err != nil {
			return img, err
		}
		img.initrd = append(img.initrd, base)
	default:
		own, err := os.ReadFile(s.Initrd)
		if err != nil {
			return img, fmt.Errorf("initrd: %w", err)
		}
		pid1, err := initramfs.Init()
		if err != nil {
			return img, err
		}
		img.initrd = append(img.initrd, own)
		img.cmdline += " rdinit=" + initPath
		files = append(files, guestinit.File{Path: initPath, Mode: 0o755, Data: pid1})
	}
	archive, err := guestinit.Archive(config, files...)
	if err != nil {
		return img, err
	}
	img.initrd = append(img.initrd, archive)
	return img, nil
}

// cmdline is the kernel's command line. Each byte on the serial port is an
// exit, so the kernel says only what matters (panics always do); a panic ends
// the machine at once.
func cmdline(s Spec) string {
	verbosity := "quiet loglevel=3"
	if s.Console != nil {
		verbosity = "loglevel=7"
	}
	line := "console=ttyS0 " + verbosity + " panic=-1 8250.nr_uarts=1 cryptomgr.notests random.trust_cpu=on"
	if runtime.GOARCH == "arm64" {
		// Debian's kernel there keeps 64 MiB for devices that need memory in one
		// piece: no guest has one, and one of 128 MiB would have none left for itself.
		line += " cma=0"
	}
	if s.Cmdline != "" {
		line += " " + s.Cmdline
	}
	return line
}
