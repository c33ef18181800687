package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"warder/supervisor/api"
	"warder/supervisor/network"
)

func lanCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lan",
		Short: "Look at the network between VMs, and change it",
		Args:  cobra.NoArgs,
	}
	cmd.AddCommand(
		lanShowCommand(),
		lanFlowsCommand(),
		lanTopCommand(),
		lanCaptureCommand(),
		lanAllowCommand(),
		lanPortCommand("isolate SERVICE", "Cut a service off from the LAN", "Cut a service off: no frame of its reaches anybody from now on, and none reaches it.\nWhat warder itself says to the VM goes by vsock and stays.", true),
		lanPortCommand("restore SERVICE", "Put an isolated service back", "", false),
		lanRateCommand(),
		lanCutCommand(),
	)
	return cmd
}

func lanShowCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "List VLANs, ports, addresses, what is allowed and what was lost",
		Long: `List the LANs of all warder processes of this user. SENT counts what the VM sent,
lost frames included; LOST says for what reasons, and how many.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			all, err := api.LANs(cmd.Context(), api.Dir())
			out := cmd.OutOrStdout()
			states := []network.Status{}
			for _, l := range all {
				states = append(states, l.Status)
				l.Close()
			}
			if output == "json" {
				return errors.Join(err, printJSON(out, states))
			}
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			for _, s := range states {
				printLAN(w, s)
			}
			return errors.Join(err, w.Flush())
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func printLAN(w *tabwriter.Writer, s network.Status) {
	fmt.Fprintf(w, "LAN of process %d\n\nVLAN\tID\tNETWORKS\tLEASES\tNAMES\tOUT\tREFUSED\n", s.PID)
	for _, v := range s.VLANs {
		g := v.Gateway
		fmt.Fprintf(w, "%s\t%d\t%v\t%d\t%d\t%d\t%d\n", v.Name, v.ID, joined(v.Networks), g.Leases, g.Resolved, g.Opened, g.Refused+g.NameRefused)
	}
	fmt.Fprintln(w, "\nPORT\tVLAN\tADDRESSES\tSENT\tRECEIVED\tFLOWS\tPUBLISHED\tLOST")
	for _, p := range s.Ports {
		name := p.Name
		if p.Isolated {
			name += " (isolated)"
		}
		var lost []string
		for _, why := range slices.Sorted(maps.Keys(p.Lost)) {
			lost = append(lost, fmt.Sprintf("%s %d", why, p.Lost[why]))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", name, p.VLAN, joined(p.Addresses), humanize.IBytes(p.SentBytes),
			humanize.IBytes(p.RecvBytes), p.Flows, strings.Join(p.Published, " "), strings.Join(lost, ", "))
	}
	fmt.Fprintln(w, "\nALLOWED")
	for _, r := range s.Rules {
		fmt.Fprintln(w, r)
	}
}

func joined[T fmt.Stringer](list []T) string {
	var s []string
	for _, v := range list {
		s = append(s, v.String())
	}
	return strings.Join(s, " ")
}

func lanAllowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "allow FILE",
		Short: "Replace what services may say to each other",
		Long: `Replace what is allowed on the LAN by the list lan.allow of a configuration file of
warder host, whose other parts are not looked at. Conversations that are under way
and still allowed go on undisturbed; the next frame of any other is lost.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			src, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			var cfg hostConfig
			if err := yaml.UnmarshalWithOptions(src, &cfg, yaml.Strict()); err != nil {
				return fmt.Errorf("%s: %s", args[0], yaml.FormatError(err, false, true))
			}
			if cfg.LAN == nil {
				return fmt.Errorf("%s: it has no section lan", args[0])
			}
			return onLAN(cmd.Context(), "", func(l *api.LAN) error { return l.SetAllow(cmd.Context(), cfg.LAN.Allow) })
		},
	}
}

// onLAN does something with the LAN that a service is on.
func onLAN(ctx context.Context, service string, do func(*api.LAN) error) error {
	l, err := api.FindLAN(ctx, api.Dir(), service)
	if err != nil {
		return err
	}
	defer l.Close()
	return do(l)
}

func lanPortCommand(use, short, long string, isolated bool) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return onLAN(cmd.Context(), args[0], func(l *api.LAN) error {
				return l.ChangePort(cmd.Context(), args[0], api.PortChange{Isolated: &isolated})
			})
		},
	}
}

func lanRateCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "limit SERVICE BYTES",
		Short:   "Bound what a service sends a second; 0 takes the bound away",
		Example: "  warder lan limit builder 10MB",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			rate, err := humanize.ParseBytes(args[1])
			if err != nil {
				return fmt.Errorf("%s: give bytes a second, as in 10MB", args[1])
			}
			return onLAN(cmd.Context(), args[0], func(l *api.LAN) error {
				return l.ChangePort(cmd.Context(), args[0], api.PortChange{Rate: &rate})
			})
		},
	}
}

func lanCutCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cut FLOW",
		Short: "Cut one conversation, by the number that events name",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			flow, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return fmt.Errorf("flow %s: give its number", args[0])
			}
			l, err := api.FindTraffic(cmd.Context(), api.Dir(), 0)
			if err != nil {
				return err
			}
			defer l.Close()
			return l.Cut(cmd.Context(), flow)
		},
	}
}
