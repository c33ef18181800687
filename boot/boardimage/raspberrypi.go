package boardimage

import (
	"fmt"
	"os"
	"path/filepath"
)

// configTxt is what the boards' firmware reads first,
// https://www.raspberrypi.com/documentation/computers/config_txt.html.
const configTxt = `# warder, on Raspberry Pi boards of 64 bits
arm_64bit=1
kernel=kernel8.img
initramfs initrd.img followkernel
# The device trees beside this file are the kernel's own, with its names.
upstream_kernel=1
# The serial port is the console, at a clock that stands still.
enable_uart=1
# What follows keeps memory for VMs: nothing here has a screen.
gpu_mem=16
`

// writeRaspberryPi writes what the boards' firmware expects: its own files have
// to be beside these, where the board does not have them in flash memory.
func (c *Config) writeRaspberryPi(dir string) error {
	if err := c.writePlain(dir, "kernel8.img"); err != nil {
		return err
	}
	trees, err := filepath.Glob(filepath.Join(c.Host.DeviceTrees, "*.dtb"))
	if err != nil {
		return err
	}
	if c.Host.DeviceTrees == "" || len(trees) == 0 {
		return fmt.Errorf("kernel %s has no device trees for these boards", c.Host.Release)
	}
	for _, tree := range trees {
		if err := copyFile(filepath.Join(dir, filepath.Base(tree)), tree); err != nil {
			return err
		}
	}
	if c.Firmware != "" {
		if err := os.CopyFS(dir, os.DirFS(c.Firmware)); err != nil {
			return fmt.Errorf("firmware: %w", err)
		}
	}
	return os.WriteFile(filepath.Join(dir, "config.txt"), []byte(configTxt), 0o644)
}
