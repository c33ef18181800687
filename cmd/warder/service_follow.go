package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"warder/supervisor/api"
	"warder/supervisor/hosting"
	"warder/supervisor/services"
)

// untilInterrupted gives a context that ends when the person has seen enough.
func untilInterrupted(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
}

func (f *serviceFlags) logs() *cobra.Command {
	var lines int
	var follow, times bool
	cmd := f.named("logs", "Show what a service has said", func(ctx context.Context, h *api.Host, cmd *cobra.Command, args []string) error {
		ctx, stop := untilInterrupted(ctx)
		defer stop()
		out, errs := cmd.OutOrStdout(), cmd.ErrOrStderr()
		for l, err := range h.Logs(ctx, args[0], lines, follow) {
			if err != nil {
				return over(ctx, err)
			}
			if f.output == "json" {
				if err := json.NewEncoder(out).Encode(l); err != nil {
					return err
				}
				continue
			}
			if l.Lost > 0 {
				fmt.Fprintf(errs, "warder: %s are not kept any more\n", count(l.Lost, "line"))
			}
			to, stamp := out, ""
			if l.Stream == "stderr" {
				to = errs
			}
			if times {
				stamp = l.Time.Format("2006-01-02T15:04:05.000Z07:00 ")
			}
			if _, err := fmt.Fprintf(to, "%s%s\n", stamp, printable(l.Text)); err != nil {
				return err
			}
		}
		return nil
	})
	cmd.Long = `Show what a service has written to its standard output and error, as much as the
host keeps of it, also of VMs that have ended.`
	flags := cmd.Flags()
	flags.IntVarP(&lines, "lines", "n", -1, "only so many of the last lines (default all)")
	flags.BoolVarP(&follow, "follow", "f", false, "go on with what comes, until interrupted")
	flags.BoolVarP(&times, "timestamps", "t", false, "print when each line came")
	return cmd
}

func (f *serviceFlags) console() *cobra.Command {
	cmd := f.named("console", "Show the last that the kernel of a service's guest said", func(ctx context.Context, h *api.Host, cmd *cobra.Command, args []string) error {
		var said bytes.Buffer
		if err := h.Console(ctx, args[0], &said); err != nil {
			return err
		}
		for line := range strings.Lines(said.String()) {
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), printable(strings.TrimRight(line, "\r\n"))); err != nil {
				return err
			}
		}
		return nil
	})
	cmd.Long = `Show the end of what the guest's kernel has written to its serial port. It works
also when nothing in the guest answers.`
	return cmd
}

func (f *serviceFlags) events() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use: "events [NAME]", Short: "Show what has become of services", Args: cobra.MaximumNArgs(1), ValidArgsFunction: f.complete,
		RunE: f.on(func(ctx context.Context, h *api.Host, cmd *cobra.Command, args []string) error {
			ctx, stop := untilInterrupted(ctx)
			defer stop()
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			out := cmd.OutOrStdout()
			for e, err := range h.Events(ctx, name, follow) {
				if err != nil {
					return over(ctx, err)
				}
				if f.output == "json" {
					if err := json.NewEncoder(out).Encode(e); err != nil {
						return err
					}
					continue
				}
				if e.Lost > 0 {
					fmt.Fprintf(cmd.ErrOrStderr(), "warder: %s are not kept any more\n", count(e.Lost, "event"))
				}
				if _, err := fmt.Fprintf(out, "%s  %-16s %-9s %s\n", e.Time.Format("2006-01-02 15:04:05"), e.Service, e.State, printable(happened(e))); err != nil {
					return err
				}
			}
			return nil
		}),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens, until interrupted")
	return cmd
}

// happened says what an event is beside the state.
func happened(e hosting.Event) string {
	if e.Sized == nil {
		return e.Why
	}
	return sizes(*e.Sized) + ": " + e.Why
}

// sizes is a change of size, as "memory 128 MiB to 160 MiB".
func sizes(by services.Sized) string {
	var changes []string
	if by.From.Memory != by.To.Memory {
		changes = append(changes, fmt.Sprintf("memory %s to %s", humanize.IBytes(by.From.Memory), humanize.IBytes(by.To.Memory)))
	}
	if by.From.CPUs != by.To.CPUs {
		changes = append(changes, fmt.Sprintf("CPUs %d to %d", by.From.CPUs, by.To.CPUs))
	}
	if by.From.Weight != by.To.Weight {
		changes = append(changes, fmt.Sprintf("CPU weight %d to %d", by.From.Weight, by.To.Weight))
	}
	if len(changes) == 0 {
		return "size unchanged"
	}
	return strings.Join(changes, ", ")
}

// over is the error of a stream, none when it was interrupted.
func over(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
