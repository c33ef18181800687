package main

import (
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

	"warder/boot/kernelpkg"
	"warder/boot/tuned"
)

func kernelBuildCommand() *cobra.Command {
	req := tuned.Request{}
	var output string
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build the tuned guest kernel",
		Long: `Build the tuned guest kernel from Debian's kernel source, fetched from this
machine's package sources. It has built in what warder's guests use and nothing
else, and guests run it from then on. "make kernel" in warder's source installs the compiler and what else it
takes. It needs about 4 GB of disk while it runs, and ten minutes of two CPUs.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			p, err := buildKernel(ctx, req)
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
	f.StringVar(&req.Arch, "arch", runtime.GOARCH, "architecture of the guests, amd64 or arm64")
	f.BoolVar(&req.Force, "force", false, "build it again, from the newest source, even if there is one")
	f.StringVar(&req.Dir, "dir", "", "keep source and objects here for the next build (default: removed)")
	f.IntVarP(&req.Jobs, "jobs", "j", 0, "compilers at a time (default: one a CPU)")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func buildKernel(ctx context.Context, req tuned.Request) (*kernelpkg.Package, error) {
	if req.Dir != "" {
		dir, err := filepath.Abs(req.Dir)
		if err != nil {
			return nil, err
		}
		req.Dir = dir
	}
	bar := newProgress(os.Stderr)
	defer bar.end()
	req.Progress = fetchProgress(bar)
	start := time.Now()
	p, err := tuned.Build(ctx, req)
	if err != nil {
		return nil, err
	}
	bar.end()
	if p.Installed.Before(start) {
		fmt.Fprintf(os.Stderr, "kernel %s for %s is here already (--force builds it again)\n", p.Release, p.Arch)
	} else {
		fmt.Fprintf(os.Stderr, "kernel %s for %s, %.0f s\n", p.Release, p.Arch, time.Since(start).Seconds())
	}
	return p, nil
}

// A kernelName is what --kernel and a configuration's kernel take: the path of
// a file, or a flavour's name for an installed one.
type kernelName string

const kernelHelp = `guest kernel: a file, or "tuned" or "debian" for an installed one (default the tuned one if there is one)`

// absolute makes a path absolute; one that is relative is meant from base.
func (k kernelName) absolute(base string) (kernelName, error) {
	if k == "" || kernelpkg.Flavour(k).Known() {
		return k, nil
	}
	path, err := absolute(base, string(k))
	return kernelName(path), err
}

// file reports the path when it is one.
func (k kernelName) file() (string, bool) {
	return string(k), k != "" && !kernelpkg.Flavour(k).Known()
}

// path is that of the kernel that is meant.
func (k kernelName) path() (string, error) {
	if path, ok := k.file(); ok {
		return path, nil
	}
	p, err := kernelpkg.Default(runtime.GOARCH)
	if k != "" {
		p, err = kernelpkg.FindFlavour(runtime.GOARCH, kernelpkg.Flavour(k))
	}
	if err != nil {
		return "", err
	}
	return p.KernelPath, nil
}
