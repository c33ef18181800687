package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"warder/supervisor/api"
	"warder/supervisor/declaration"
	"warder/supervisor/services"
)

func (f *serviceFlags) start() *cobra.Command {
	var patience time.Duration
	cmd := f.named("start", "Start a service", func(ctx context.Context, h *api.Host, cmd *cobra.Command, args []string) error {
		s, err := h.StartWhenFree(ctx, args[0], patience)
		if err != nil {
			return err
		}
		if err := f.told(cmd, s); err != nil {
			return err
		}
		if s.State == services.Failed || s.State == services.Waiting {
			return exitStatus(1)
		}
		return nil
	})
	cmd.Long = `Start a service and wait until it runs: its command has begun, and its health
check has succeeded if it has one. The exit status is 1 if it has failed, or if
the machine does not have what it needs; what that is, is said with the numbers.
With --patience it waits for that, in the order of the services' priorities.`
	cmd.Flags().DurationVar(&patience, "patience", 0, "how long to wait for what the machine does not have now")
	return cmd
}

func (f *serviceFlags) stop() *cobra.Command {
	var timeout time.Duration
	cmd := f.named("stop", "Stop a service", func(ctx context.Context, h *api.Host, cmd *cobra.Command, args []string) error {
		s, err := h.Stop(ctx, args[0], timeout)
		if err != nil {
			return err
		}
		return f.told(cmd, s)
	})
	cmd.Long = `Stop a service and wait until it has given back all that it held. Its processes
get SIGTERM, and SIGKILL when their time is over.`
	cmd.Flags().DurationVarP(&timeout, "timeout", "t", 0, "how long its processes may take to end (default what is declared)")
	return cmd
}

func (f *serviceFlags) wait() *cobra.Command {
	cmd := f.named("wait", "Wait until a service has ended", func(ctx context.Context, h *api.Host, cmd *cobra.Command, args []string) error {
		s, err := h.Wait(ctx, args[0])
		if err != nil {
			return err
		}
		if err := f.told(cmd, s); err != nil {
			return err
		}
		if s.State == services.Failed {
			code := 0
			if s.Exit != nil {
				code = s.Exit.ExitCode()
			}
			return exitStatus(cmp.Or(code, 1))
		}
		return nil
	})
	cmd.Long = `Wait until a service holds nothing any more. The exit status is 0 if it ended
well or was stopped, that of its command if that failed, and else 1.`
	return cmd
}

func (f *serviceFlags) add() *cobra.Command {
	return &cobra.Command{
		Use:   "add FILE",
		Short: "Declare a service to a host that runs",
		Long: `Declare the service that is in a file. Paths in it are relative to the file's
directory. A service that was added before and does not run is declared anew.`,
		Args: cobra.ExactArgs(1),
		RunE: f.on(func(ctx context.Context, h *api.Host, cmd *cobra.Command, args []string) error {
			d, err := declaration.ReadFile(args[0])
			if err != nil {
				return err
			}
			src, err := declaration.Open(args[0])
			if err != nil {
				return err
			}
			base, err := filepath.Abs(filepath.Dir(args[0]))
			if err != nil {
				return err
			}
			s, err := h.Add(ctx, d.Name, src, base)
			if err != nil {
				return err
			}
			return f.told(cmd, s)
		}),
	}
}

func (f *serviceFlags) rm() *cobra.Command {
	return f.named("rm", "Forget a service that was added and does not run", func(ctx context.Context, h *api.Host, _ *cobra.Command, args []string) error {
		_, err := h.Remove(ctx, args[0])
		return err
	})
}

func lintCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "lint FILE...",
		Short: "Check declarations of services",
		Long: `Check files, each with the declaration of one service, without a host. All that is
wrong is shown with its place, and the exit status is 1 then. Whether the files that
a declaration names are there is not looked at.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bad := 0
			for _, file := range args {
				d, err := declaration.ReadFile(file)
				if err == nil {
					d.Shares = nil // their directories are looked at where they are
					_, err = declared(d)
				}
				if err != nil {
					bad++
					fmt.Fprintln(os.Stderr, err)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s is declared well\n", file, d.Name)
			}
			if bad > 0 {
				return exitStatus(1)
			}
			return nil
		},
	}
}

func schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of a service's declaration",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(declaration.Schema)
			return err
		},
	}
}
