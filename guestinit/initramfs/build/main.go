// Command build makes the base initramfs of each architecture, compressed,
// where package initramfs embeds it. It is run in the module's directory.
//
//	go run ./guestinit/initramfs/build [-o DIR] [ARCH...]
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"warder/guestinit/initramfs"
	"warder/guestinit/initramfs/builder"
)

func main() {
	dir := flag.String("o", "guestinit/initramfs/images", "the directory for the images")
	flag.Parse()
	arches := flag.Args()
	if len(arches) == 0 {
		arches = initramfs.Arches
	}
	for _, arch := range arches {
		if err := build(*dir, arch); err != nil {
			fmt.Fprintln(os.Stderr, "initramfs:", err)
			os.Exit(1)
		}
	}
}

func build(dir, arch string) error {
	var image, packed bytes.Buffer
	if err := builder.Build(&image, arch, slog.Default()); err != nil {
		return err
	}
	// One goroutine and no time stamps: the same bytes every time.
	z, err := zstd.NewWriter(&packed, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	z.Write(image.Bytes())
	if err := z.Close(); err != nil {
		return err
	}
	path := filepath.Join(dir, initramfs.FileName(arch))
	tmp := path + ".new"
	if err := os.WriteFile(tmp, packed.Bytes(), 0o644); err != nil {
		return err
	}
	fmt.Printf("%s: %.1f MiB, %.1f MiB in the guest\n", path, mib(packed.Len()), mib(image.Len()))
	return os.Rename(tmp, path)
}

func mib(n int) float64 { return float64(n) / (1 << 20) }
