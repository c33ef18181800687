package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"warder/boot/boardimage"
	"warder/boot/kernelpkg"
	"warder/lab"
	"warder/supervisor/declaration"
)

type imageFlags struct {
	boardimage.Config
	dir    string
	disk   string
	layout string
	config string
}

func imageCommand() *cobra.Command {
	var f imageFlags
	cmd := &cobra.Command{
		Use:   "image {-o DIR | --disk FILE}",
		Short: "Make what a machine boots from that does nothing but run warder",
		Long: `Write warder's bare-metal image: a kernel and an initial RAM disk that boot a
board or a server straight into "warder host", with no other system on it. The
files in DIR go onto a FAT file system labelled WARDER; the configuration of
warder host is among them, as warder/host.yaml, and can be edited there. --disk
writes a whole disk with that file system, to be copied onto a medium by dd.

Layouts: plain is a kernel, an initial RAM disk and a command line for any boot
loader; efi is one file that UEFI firmware starts from a removable medium;
raspberrypi is what the firmware of those boards expects.`,
		Example: `  warder image -o out --config services.yaml
  warder image --arch arm64 --layout raspberrypi --firmware /boot/firmware -o /media/sdcard
  warder image --layout efi --disk warder.img && dd if=warder.img of=/dev/sdX bs=1M`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.dir == "" && f.disk == "" {
				return errors.New("give -o DIR for the files, --disk FILE for a disk, or both")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return writeImage(ctx, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.dir, "output", "o", "", "directory for the files, made if it is missing")
	flags.StringVar(&f.disk, "disk", "", "file for a disk with the files on it, for the layouts efi and raspberrypi")
	flags.StringVar(&f.Arch, "arch", runtime.GOARCH, "architecture of the machine, amd64 or arm64")
	flags.StringVar(&f.layout, "layout", string(boardimage.Plain), "plain, efi or raspberrypi")
	flags.StringVarP(&f.config, "config", "f", "", "configuration of warder host (default: an example with one VM)")
	flags.StringVar(&f.Hostname, "hostname", "warder", "the machine's name")
	flags.StringVar(&f.Cmdline, "append", "", "add this to the kernel's command line")
	flags.StringVar(&f.Firmware, "firmware", "", "directory of the board's own boot files, copied beside the others")
	return cmd
}

// exampleConfig is for a machine that was given no configuration.
const exampleConfig = `# The VMs of this machine. Edit this file on the boot medium.
vms:
  - name: hello
    command: [sh, -c, 'uname -a; while true; do sleep 3600; done']
`

func writeImage(ctx context.Context, f imageFlags) error {
	f.Layout = boardimage.Layout(f.layout)
	if f.disk != "" {
		if err := f.Layout.CheckDisk(); err != nil {
			return err
		}
	}
	f.HostConfig = []byte(exampleConfig)
	if f.config != "" {
		text, err := checkedConfig(f.config)
		if err != nil {
			return err
		}
		f.HostConfig = text
	}
	f.Built = time.Now()
	var err error
	if f.Warder, err = lab.Binary(f.Arch); err != nil {
		return err
	}
	bar := newProgress(os.Stderr)
	defer bar.end()
	if f.Host, err = kernelpkg.FindFlavour(f.Arch, kernelpkg.Host); isMissing(err) {
		f.Host, err = kernelpkg.PullHost(ctx, f.Arch, false, fetchProgress(bar))
	}
	if err != nil {
		return fmt.Errorf("kernel of the machine: %w", err)
	}
	if f.Guest, err = kernelpkg.Default(f.Arch); isMissing(err) {
		f.Guest, err = kernelpkg.Pull(ctx, f.Arch, false, fetchProgress(bar))
	}
	if err != nil {
		return fmt.Errorf("kernel of the guests: %w", err)
	}
	if f.Layout == boardimage.EFI {
		if f.Stub, err = boardimage.FetchStub(ctx, f.Arch, fetchProgress(bar)); err != nil {
			return err
		}
	}
	where := cmp.Or(f.disk, f.dir)
	bar.report("write "+where, 0, 0, "")
	if err := f.write(); err != nil {
		return err
	}
	bar.end()
	fmt.Fprintf(os.Stderr, "%s: Linux %s for the machine, %s for its guests\n", where, f.Host.Release, f.Guest.Release)
	return nil
}

// write writes the files, the disk or both.
func (f imageFlags) write() error {
	if f.dir == "" {
		// Beside the disk, where there is room.
		tmp, err := os.MkdirTemp(filepath.Dir(f.disk), ".image-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		f.dir = tmp
	}
	if err := boardimage.Write(f.dir, f.Config); err != nil || f.disk == "" {
		return err
	}
	return boardimage.WriteDisk(f.disk, f.dir, f.Layout, f.Built)
}

func isMissing(err error) bool {
	_, missing := errors.AsType[*kernelpkg.MissingError](err)
	return missing
}

// checkedConfig reads a configuration of warder host and says here, not on the
// machine, what is wrong with it. Directories that it shares are the machine's.
func checkedConfig(path string) ([]byte, error) {
	text, err := declaration.Open(path)
	if err != nil {
		return nil, err
	}
	var cfg hostConfig
	if err := declaration.Decode(text, &cfg); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, vms := range [][]hostVM{cfg.VMs, cfg.Services} {
		for i := range vms {
			vms[i].Shares = nil
		}
	}
	if err := declaration.Explain(text, "", cfg.check("/")); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}
