package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"warder/secmon/lan/monitor"
	"warder/supervisor/api"
)

// lanFlags say which LAN and what of it.
type lanFlags struct {
	pid    int
	vm     string
	output string
}

func (f *lanFlags) addTo(cmd *cobra.Command) {
	cmd.Flags().IntVar(&f.pid, "pid", 0, "process that has the LAN, where there are several")
	cmd.Flags().StringVar(&f.vm, "vm", "", "only of this VM")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json: a flow a line")
}

func lanFlowsCommand() *cobra.Command {
	var f lanFlags
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "List the conversations between VMs",
		Long: `List the flows that the monitor knows, of the LAN and of vsock, the one that was busy last first:
who opened it to whom, what is spoken, and how many bytes and packets have gone each
way. FLOW is the number that events have and warder lan cut takes. A flow is known until it is over and 5 seconds have gone by, or has been quiet
for long: a connection for two hours, others for a minute or two.`,
		Example: `  warder lan flows --vm web
  warder lan flows -o json | jq 'select(.application == "tls")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(f.output); err != nil {
				return err
			}
			l, err := api.FindTraffic(cmd.Context(), api.Dir(), f.pid)
			if err != nil {
				return err
			}
			defer l.Close()
			out := cmd.OutOrStdout()
			if f.output == "json" {
				return rawFlows(cmd.Context(), l, f.vm, out)
			}
			flows, err := readFlows(cmd.Context(), l, f.vm)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "FLOW\tVLAN\tPROTO\tFROM\tTO\tSPEAKS\tSTATE\tSENT\tRECEIVED\tAGE\tQUIET")
			now := time.Now()
			for i := range flows {
				x := &flows[i]
				from, to := x.Ends()
				fmt.Fprintln(w, line(x.ID, vlanOf(x), x.Transport, flowEnd(x.SourceVM, from), flowEnd(x.DestinationVM, to), dash(x.Application), x.State,
					traffic(x.Bytes[0], x.Packets[0]), traffic(x.Bytes[1], x.Packets[1]), now.Sub(x.Begun).Round(time.Second), now.Sub(x.Last).Round(time.Second)))
			}
			if err := w.Flush(); err != nil {
				return err
			}
			_, err = io.WriteString(out, unwatched(l.Stats))
			return err
		},
	}
	f.addTo(cmd)
	return cmd
}

// unwatched says what the monitor had no room for, "" if that is nothing.
func unwatched(s monitor.Stats) string {
	if s.Evicted+s.Lost+s.Held == 0 {
		return ""
	}
	return fmt.Sprintf("not seen whole: %s pushed out, %s given up, %s not told\n", count(s.Evicted, "flow"), count(s.Lost, "stream"), count(s.Held, "event"))
}

// rawFlows prints flows as lines of JSON, as they come.
func rawFlows(ctx context.Context, l *api.Traffic, vm string, out io.Writer) error {
	for raw, err := range l.Flows(ctx, vm) {
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s\n", raw); err != nil {
			return err
		}
	}
	return nil
}

func readFlows(ctx context.Context, l *api.Traffic, vm string) (flows []monitor.Flow, err error) {
	for raw, err := range l.Flows(ctx, vm) {
		if err != nil {
			return nil, err
		}
		var f monitor.Flow
		if err := json.Unmarshal(raw, &f); err != nil {
			return nil, err
		}
		flows = append(flows, f)
	}
	return flows, nil
}

// flowEnd is an end of a flow: the VM's name if it is one, and its address.
func flowEnd(vm, where string) string {
	if vm == "" {
		return where
	}
	return vm + " " + where
}

// vlanOf is the flow's VLAN, "-" for none.
func vlanOf(f *monitor.Flow) string {
	if f.VLAN == 0 {
		return "-"
	}
	return strconv.Itoa(int(f.VLAN))
}

func traffic(bytes, packets uint64) string {
	return fmt.Sprintf("%s/%d", humanize.IBytes(bytes), packets)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
