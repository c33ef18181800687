package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"warder/boot/debian"
	"warder/boot/kernelpkg"
)

func kernelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kernel",
		Short: "Get and show the kernels that guests run",
		Long: `Guests run an unmodified distribution kernel, which "warder kernel pull" gets
without root: from this machine's Debian package sources, or out of a package;
or a kernel tuned for them, which "warder kernel build" makes, if there is one.`,
	}
	cmd.AddCommand(kernelPullCommand(), kernelBuildCommand(), kernelListCommand(), kernelPathCommand())
	return cmd
}

func kernelPullCommand() *cobra.Command {
	var (
		arch, deb, output string
		force             bool
	)
	cmd := &cobra.Command{
		Use:   "pull",
		Short: "Get a guest kernel and the modules that guests need",
		Example: `  warder kernel pull
  warder kernel pull --arch arm64
  warder kernel pull --deb linux-image-6.12.117+deb12-cloud-amd64_6.12.117-1~deb12u1_amd64.deb`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			p, err := pullKernel(ctx, arch, deb, force)
			if errors.Is(err, context.Canceled) {
				return errors.New("interrupted; nothing was installed")
			}
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), p)
			}
			fmt.Fprintln(cmd.OutOrStdout(), p.KernelPath)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&arch, "arch", runtime.GOARCH, "architecture of the guests, amd64 or arm64")
	f.StringVar(&deb, "deb", "", "take the kernel out of this Debian package (linux-image-RELEASE)")
	f.BoolVar(&force, "force", false, "get it again even if there is one")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	cmd.MarkFlagsMutuallyExclusive("arch", "deb")
	return cmd
}

func pullKernel(ctx context.Context, arch, deb string, force bool) (*kernelpkg.Package, error) {
	if deb == "" && !force {
		p, err := kernelpkg.Find(arch)
		if err == nil {
			fmt.Fprintf(os.Stderr, "kernel %s for %s is here already (--force gets the newest)\n", p.Release, p.Arch)
			return p, nil
		}
		if _, missing := errors.AsType[*kernelpkg.MissingError](err); !missing {
			return nil, err
		}
	}
	bar := newProgress(os.Stderr)
	defer bar.end()
	start := time.Now()
	var p *kernelpkg.Package
	var err error
	if deb != "" {
		bar.report("unpack "+filepath.Base(deb), 0, 0, "")
		p, err = kernelpkg.Install(ctx, deb, force)
	} else {
		p, err = kernelpkg.Pull(ctx, arch, force, fetchProgress(bar))
	}
	if err != nil {
		return nil, err
	}
	bar.end()
	fmt.Fprintf(os.Stderr, "kernel %s for %s with %d modules, %.1f s\n", p.Release, p.Arch, len(p.Modules), time.Since(start).Seconds())
	return p, nil
}

// fetchProgress shows in bar how far packages are.
func fetchProgress(bar *progress) func(debian.Progress) {
	return func(d debian.Progress) {
		if d.Unit == "bytes" {
			const kib = 1 << 10
			d.Done, d.Total, d.Unit = d.Done/kib, d.Total/kib, "KiB"
		}
		bar.report(d.What, d.Done, d.Total, d.Unit)
	}
}

func kernelListCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the guest kernels that are here",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			all, err := kernelpkg.List()
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), append([]*kernelpkg.Package{}, all...))
			}
			if len(all) == 0 {
				fmt.Fprintln(os.Stderr, `no guest kernels: "warder kernel pull" gets one`)
				return nil
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ARCH\tFLAVOUR\tRELEASE\tVERSION\tINSTALLED\tDIRECTORY")
			for _, p := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", p.Arch, p.Flavour, p.Release, p.Version,
					p.Installed.Local().Format("2006-01-02 15:04"), p.Dir)
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func kernelPathCommand() *cobra.Command {
	var (
		arch    string
		flavour string
		vmlinuz bool
	)
	cmd := &cobra.Command{
		Use:   "path",
		Short: "Print the path of the kernel that guests run",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := kernelpkg.Default(arch)
			if flavour != "" {
				p, err = kernelpkg.FindFlavour(arch, kernelpkg.Flavour(flavour))
			}
			if err != nil {
				return err
			}
			path := p.KernelPath
			if vmlinuz {
				path = p.VmlinuzPath
			}
			fmt.Fprintln(cmd.OutOrStdout(), path)
			return nil
		},
	}
	cmd.Flags().StringVar(&arch, "arch", runtime.GOARCH, "architecture of the guests, amd64 or arm64")
	cmd.Flags().StringVar(&flavour, "flavour", "", "tuned or debian (default: the tuned one if there is one)")
	cmd.Flags().BoolVar(&vmlinuz, "vmlinuz", false, "the file as packaged, for other boot loaders")
	return cmd
}

// checkOutput refuses an unknown --output.
func checkOutput(output string) error {
	if output != "text" && output != "json" {
		return fmt.Errorf("--output %s: has to be text or json", output)
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
