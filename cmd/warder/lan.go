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
	"warder/supervisor/declaration"
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
		lanIsolateCommand(),
		lanRestoreCommand(),
		lanDivertCommand(),
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
		fmt.Fprintf(w, "%s\t%d\t%v\t%d\t%d\t%d\t%d\n", v.Name, v.ID, joined(v.Networks), g.Leases, g.Resolved, g.Opened, g.Refused+g.NameRefused+g.RequestsRefused)
	}
	fmt.Fprintln(w, "\nPORT\tVLAN\tADDRESSES\tSENT\tRECEIVED\tFLOWS\tPUBLISHED\tLOST")
	for _, p := range s.Ports {
		name := p.Name
		if p.Isolated {
			name += " (isolated)"
		}
		if p.Diverted != "" {
			name += " (diverted to " + p.Diverted + ")"
		}
		vlan := strings.Join(append([]string{p.VLAN}, p.Trunk...), "+")
		if len(p.Mirror) > 0 {
			vlan = "mirror of " + strings.Join(p.Mirror, " ")
		}
		var lost []string
		for _, why := range slices.Sorted(maps.Keys(p.Lost)) {
			lost = append(lost, fmt.Sprintf("%s %d", why, p.Lost[why]))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", name, vlan, joined(p.Addresses), humanize.IBytes(p.SentBytes),
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
		Short: "Replace what services may say to each other, and outside",
		Long: `Replace what is allowed on the LAN by the list lan.allow of a configuration file of
warder host, and what services may reach outside by the egress of each; the file's
other parts are not looked at. What services have declared themselves, in their lan.allow,
and the egress of services that were added stay. Conversations that are under way and still allowed go
on undisturbed; the next frame of any other is lost, and connections to the outside end.`,
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
			egress := make(map[string][]declaration.Egress)
			for _, v := range slices.Concat(cfg.VMs, cfg.Services) {
				if v.LAN != nil {
					egress[v.Name] = v.LAN.Egress
				}
			}
			return onLAN(cmd.Context(), "", func(l *api.LAN) error {
				if err := l.SetAllow(cmd.Context(), cfg.LAN.Allow); err != nil {
					return err
				}
				return l.SetEgress(cmd.Context(), egress)
			})
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

func lanIsolateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "isolate SERVICE",
		Short: "Cut a service off from the LAN",
		Long: `Cut a service off: no frame of its reaches anybody from now on, and none reaches it.
What warder itself says to the VM goes by vsock and stays.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return onLAN(cmd.Context(), args[0], func(l *api.LAN) error {
				isolated := true
				return l.ChangePort(cmd.Context(), args[0], api.PortChange{Isolated: &isolated})
			})
		},
	}
}

func lanDivertCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "divert SERVICE|FLOW MIRROR",
		Short: "Have a mirror port get what a service or a conversation says, in place of its peers",
		Long: `Have a mirror port get all frames that a service sends and is sent, or those of one
conversation by the number that events name, in place of those that they are for. Frames
that are not allowed are lost as before. warder lan restore puts it back.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return divert(cmd.Context(), args[0], args[1], nil) },
	}
}

func lanRestoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore SERVICE|FLOW",
		Short: "Put back what was isolated or diverted",
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return divert(cmd.Context(), args[0], "", new(bool)) },
	}
}

// divert diverts a service or a flow to a mirror port; "" puts it back.
func divert(ctx context.Context, what, mirror string, isolated *bool) error {
	flow, err := strconv.ParseUint(what, 10, 64)
	if err != nil {
		return onLAN(ctx, what, func(l *api.LAN) error {
			return l.ChangePort(ctx, what, api.PortChange{Isolated: isolated, Diverted: &mirror})
		})
	}
	return onLAN(ctx, "", func(l *api.LAN) error {
		if l.Has(what) { // a service whose name is a number
			return l.ChangePort(ctx, what, api.PortChange{Isolated: isolated, Diverted: &mirror})
		}
		return l.ChangeFlow(ctx, flow, api.FlowChange{Diverted: mirror})
	})
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
