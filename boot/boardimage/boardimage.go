// Package boardimage makes warder's bare-metal image: the files that a machine
// boots from which does nothing but run "warder host". They go onto a boot
// medium as they are, a FAT file system for all firmware that is supported.
//
//	warder/host.yaml        the configuration of warder host, to be edited in place
//
// and, by layout,
//
//	vmlinuz, initrd.img, cmdline.txt                       for any boot loader
//	config.txt, cmdline.txt, kernel8.img, initrd.img, *.dtb  Raspberry Pi
//	EFI/BOOT/BOOTAA64.EFI or BOOTX64.EFI                   UEFI: all in one file
//
// The initial RAM disk is the machine's whole system: warder, which is its PID 1
// too (package supervisor/board), the kernel's modules and a kernel for guests.
package boardimage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"warder/boot/kernelpkg"
)

// A Layout is what firmware expects of a boot medium.
type Layout string

// The layouts.
const (
	Plain       Layout = "plain"       // kernel, initial RAM disk, command line
	RaspberryPi Layout = "raspberrypi" // the boards' own firmware
	EFI         Layout = "efi"         // UEFI's removable medium, UEFI specification, section 3.5
)

// Volume is the label that the medium's file system must have for its
// configuration to be found.
const Volume = "WARDER"

// ConfigFile is where the configuration of warder host is, on the medium.
const ConfigFile = "warder/host.yaml"

// Config is what an image is made of.
type Config struct {
	Arch       string             // "amd64" or "arm64"
	Layout     Layout             // default Plain
	Warder     string             // path of a warder binary of that architecture
	Host       *kernelpkg.Package // the machine's kernel
	Guest      *kernelpkg.Package // its VMs' kernel
	HostConfig []byte             // of warder host
	Cmdline    string             // added to the kernel's command line
	Hostname   string             // default warder
	Built      time.Time          // the machine's clock is not set before it
	Stub       string             // path of an EFI stub, for EFI
	Firmware   string             // directory of the board's own boot files, may be empty
}

// Write writes the image's files into dir, which it makes.
func Write(dir string, c Config) error {
	if err := c.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(ConfigFile)), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, ConfigFile), c.HostConfig, 0o644); err != nil {
		return err
	}
	switch c.Layout {
	case RaspberryPi:
		return c.writeRaspberryPi(dir)
	case EFI:
		return c.writeEFI(dir)
	}
	return c.writePlain(dir, "vmlinuz")
}

func (c *Config) check() error {
	switch c.Layout {
	case "":
		c.Layout = Plain
	case Plain, EFI:
	case RaspberryPi:
		if c.Arch != "arm64" {
			return fmt.Errorf("layout %s: those boards are arm64, not %s", c.Layout, c.Arch)
		}
	default:
		return fmt.Errorf("layout %q: has to be %s, %s or %s", c.Layout, Plain, RaspberryPi, EFI)
	}
	for _, k := range []*kernelpkg.Package{c.Host, c.Guest} {
		if k == nil {
			return errors.New("a machine needs a kernel, and so do its guests")
		}
		if k.Arch != c.Arch {
			return fmt.Errorf("kernel %s is for %s, the image for %s", k.Release, k.Arch, c.Arch)
		}
	}
	if c.Hostname == "" {
		c.Hostname = "warder"
	}
	return checkBinary(c.Warder, c.Arch)
}

// writePlain writes kernel, initial RAM disk and command line.
func (c *Config) writePlain(dir, kernel string) error {
	if err := copyFile(filepath.Join(dir, kernel), c.Host.VmlinuzPath); err != nil {
		return err
	}
	if err := c.writeInitramfs(filepath.Join(dir, "initrd.img")); err != nil {
		return fmt.Errorf("initial RAM disk: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, "cmdline.txt"), []byte(c.commandLine()+"\n"), 0o644)
}

// commandLine is the kernel's. The serial port comes last, as that is where
// /dev/console is; without one it is the screen. A board that panics starts again.
func (c *Config) commandLine() string {
	line := "loglevel=4 panic=10"
	switch {
	case c.Layout == RaspberryPi:
		line = "console=tty1 console=serial0,115200 " + line
	case c.Arch == "amd64":
		line = "console=tty0 console=ttyS0,115200 " + line
	}
	if c.Cmdline != "" {
		line += " " + c.Cmdline
	}
	return line
}

func copyFile(to, from string) error {
	r, err := os.Open(from)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		w.Close()
		return err
	}
	return w.Close()
}
