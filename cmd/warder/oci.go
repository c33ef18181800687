package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"warder/supervisor"
	"warder/supervisor/declaration"
	"warder/supervisor/rootfs"
)

func ociCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "oci",
		Short: "The images of container tools that VMs are of",
		Long: `Images of container tools become the root file systems of VMs: warder run --image,
and "image" where a service is declared. Each is made once and kept in warder's
cache directory; what has not been used for longest is removed when there is no
room. A registry is asked once for what it has under a name; pull asks again.
Registries know a user by what docker login or podman login has written.`,
	}
	cmd.AddCommand(ociPullCommand(), ociListCommand(), ociRemoveCommand())
	return cmd
}

func ociPullCommand() *cobra.Command {
	var output, arch string
	cmd := &cobra.Command{
		Use:   "pull IMAGE",
		Short: "Make a root file system of an image, the newest of its name",
		Example: `  warder oci pull alpine:3
  warder oci pull oci:./layout:latest
  warder oci pull tar:saved.tar`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			lease, err := makeImage(cmd.Context(), args[0], arch, (*rootfs.Store).Pull)
			if err != nil {
				return err
			}
			if lease.FileSystem != "" {
				return errors.Join(errors.New("a disk image is used as it is: there is nothing to pull"), lease.Close())
			}
			defer lease.Close()
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), lease.Image)
			}
			fmt.Fprintln(cmd.OutOrStdout(), lease.Digest)
			return nil
		},
	}
	cmd.Flags().StringVar(&arch, "arch", "", "architecture of the guests, amd64 or arm64 (default this machine's)")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func ociListCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the images that are here",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			store, err := rootfs.Open(rootfs.Options{})
			if err != nil {
				return err
			}
			all, err := store.List()
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(cmd.OutOrStdout(), append([]rootfs.Image{}, all...))
			}
			if len(all) == 0 {
				fmt.Fprintln(os.Stderr, `no images: "warder oci pull" makes one`)
				return nil
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "DIGEST\tARCH\tSIZE\tUSED\tNAMES")
			for _, i := range all {
				fmt.Fprintf(w, "%.12s\t%s\t%s\t%s\t%s\n", i.Digest, i.Arch, humanize.IBytes(uint64(i.Size)), humanize.Time(i.Used), strings.Join(i.Names, " "))
			}
			return w.Flush()
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func ociRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm DIGEST|NAME...",
		Short: "Remove images",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := rootfs.Open(rootfs.Options{})
			if err != nil {
				return err
			}
			var errs []error
			for _, a := range args {
				_, err := store.Remove(a)
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) (words []string, _ cobra.ShellCompDirective) {
			store, err := rootfs.Open(rootfs.Options{})
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			all, err := store.List()
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			for _, i := range all {
				words = append(append(words, i.Digest[:12]), i.Names...)
			}
			return words, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// makeImage has an image made that is named as on a command line, with its progress
// on standard error.
func makeImage(ctx context.Context, text, arch string, get func(*rootfs.Store, context.Context, declaration.Image) (*rootfs.Lease, error)) (*rootfs.Lease, error) {
	image, err := localImage(text)
	if err != nil {
		return nil, err
	}
	bar := newProgress(os.Stderr)
	defer bar.end()
	shown := bar.report
	if bar.width == 0 { // what is quick needs no lines in a log
		shown = nil
	}
	store, err := rootfs.Open(rootfs.Options{Arch: arch, Progress: shown})
	if err != nil {
		return nil, err
	}
	began := time.Now()
	lease, err := get(store, ctx, image)
	bar.end()
	if err == nil && lease.Made.After(began) {
		fmt.Fprintf(os.Stderr, "image %.12s of %s, %.1f s\n", lease.Digest, humanize.IBytes(uint64(lease.Size)), time.Since(began).Seconds())
	}
	return lease, err
}

// localImage is an image of a command line, with an absolute path.
func localImage(text string) (declaration.Image, error) {
	i, err := declaration.ParseImage(text)
	if err != nil {
		return i, fmt.Errorf("image %w", err)
	}
	if i.Kind != declaration.ImageRegistry {
		i.Name, err = filepath.Abs(i.Name)
	}
	return i, err
}

// checkImage says what can be said of an image before it is made.
func checkImage(text string) error {
	if text == "" {
		return nil
	}
	i, err := declaration.ParseImage(text)
	if err == nil && i.Kind != declaration.ImageRegistry {
		_, err = os.Stat(i.Name)
	}
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return nil
}

// imageFor gives the image that a command line names, nil for none.
func imageFor(ctx context.Context, text string) (*rootfs.Lease, error) {
	if text == "" {
		return nil, nil
	}
	return makeImage(ctx, text, "", (*rootfs.Store).Get)
}

// imageForLab makes an image for a machine of an architecture. It gives the image by
// which that is known there, and the file or directory that has to be there for it.
func imageForLab(ctx context.Context, text, arch string) (image, file string, err error) {
	lease, err := makeImage(ctx, text, arch, (*rootfs.Store).Get)
	if err != nil {
		return "", "", err
	}
	defer lease.Close()
	if lease.FileSystem != "" { // of a disk, which stays as it is
		i, err := localImage(text)
		return i.String(), i.Name, err
	}
	dir := filepath.Dir(lease.Path)
	return declaration.Image{Kind: declaration.ImageMade, Name: dir}.String(), dir, nil
}

// rootOf is what a VM has of an image, nothing of nil, and of a disk over it.
func rootOf(l *rootfs.Lease, overlay string) supervisor.Root {
	if l == nil {
		return supervisor.Root{}
	}
	c := l.Config
	root := supervisor.Root{Path: l.Path, Disk: overlay, Args: c.Args, Env: c.Env, Dir: c.Dir, User: c.User}
	if l.FileSystem != "" {
		root.FileSystem, root.Offset, root.Size = l.FileSystem, l.Offset, l.Size
	}
	return root
}
