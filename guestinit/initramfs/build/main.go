// Command build makes the base initramfs of each architecture and what a supervisor
// has beside it, compressed, where package initramfs embeds them. It is run in the
// module's directory.
//
//	go run ./guestinit/initramfs/build [-o DIR] [ARCH...]
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"warder/guestinit/initramfs"
	"warder/guestinit/initramfs/builder"
)

func main() {
	dir := flag.String("o", "guestinit/initramfs/images", "the directory for the images")
	force := flag.Bool("f", false, "build also what is newer than its sources")
	flag.Parse()
	arches := flag.Args()
	if len(arches) == 0 {
		arches = initramfs.Arches
	}
	newest, err := newestSource()
	if err != nil {
		fmt.Fprintln(os.Stderr, "initramfs:", err)
		os.Exit(1)
	}
	for _, arch := range arches {
		for name, build := range map[string]func(w io.Writer, arch string) error{
			initramfs.FileName(arch):       func(w io.Writer, arch string) error { return builder.Build(w, arch, slog.Default()) },
			initramfs.SupervisorName(arch): builder.BuildSupervisor,
		} {
			file := filepath.Join(*dir, name)
			if st, err := os.Stat(file); err == nil && st.ModTime().After(newest) && !*force {
				continue
			}
			if err := pack(file, arch, build); err != nil {
				fmt.Fprintln(os.Stderr, "initramfs:", err)
				os.Exit(1)
			}
		}
		if err := sum(*dir, arch); err != nil {
			fmt.Fprintln(os.Stderr, "initramfs:", err)
			os.Exit(1)
		}
	}
}

// sum writes down the digests of what a supervisor's VM has.
func sum(dir, arch string) error {
	unpacked := func(name string) ([]byte, error) {
		packed, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		return initramfs.Unpack(packed)
	}
	image, err := unpacked(initramfs.FileName(arch))
	if err != nil {
		return err
	}
	pid1, err := initramfs.InitOf(image)
	if err != nil {
		return err
	}
	program, err := unpacked(initramfs.SupervisorName(arch))
	if err != nil {
		return err
	}
	file := filepath.Join(dir, initramfs.SumsName(arch))
	sums := []byte(initramfs.Sums(pid1, program))
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, sums) {
		return nil // with its time: nothing is compiled anew
	}
	return os.WriteFile(file, sums, 0o644)
}

// newestSource is when a source of the images last changed: the module's
// dependencies, the Go release, what is under guestinit, what a supervisor is made of.
func newestSource() (newest time.Time, err error) {
	out, err := exec.Command("go", "env", "GOMOD", "GOROOT").Output()
	if err != nil {
		return newest, fmt.Errorf("go env: %w", err)
	}
	mod, goroot, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	root := filepath.Dir(mod)
	consider := func(path string) error {
		st, err := os.Stat(path)
		if err == nil && st.ModTime().After(newest) {
			newest = st.ModTime()
		}
		return err
	}
	for _, p := range []string{mod, filepath.Join(root, "go.sum"), filepath.Join(goroot, "VERSION")} {
		if err := consider(p); err != nil {
			return newest, err
		}
	}
	for _, dir := range append([]string{"guestinit"}, builder.SupervisorSources...) {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && d.Name() == "control" {
				return fs.SkipDir // the host's end
			}
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			return consider(path)
		})
		if err != nil {
			return newest, err
		}
	}
	return newest, nil
}

// pack compresses what build makes.
func pack(path, arch string, build func(w io.Writer, arch string) error) error {
	var image, packed bytes.Buffer
	if err := build(&image, arch); err != nil {
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
	tmp := path + ".new"
	if err := os.WriteFile(tmp, packed.Bytes(), 0o644); err != nil {
		return err
	}
	fmt.Printf("%s: %.1f MiB, %.1f MiB in the guest\n", path, mib(packed.Len()), mib(image.Len()))
	return os.Rename(tmp, path)
}

func mib(n int) float64 { return float64(n) / (1 << 20) }
