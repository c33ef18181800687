package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"warder/secmon/lan/monitor"
	"warder/supervisor/api"
)

// topFlags say how often and how much.
type topFlags struct {
	lanFlags
	every time.Duration
	times int
	rows  int
}

func lanTopCommand() *cobra.Command {
	var f topFlags
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show the busiest conversations between VMs, again and again",
		Long: `Show the flows through which most bytes went since the last look, both ways, again
and again until Ctrl-C.`,
		Example: `  warder lan top --every 5s
  warder lan top -n 1 -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(f.output); err != nil {
				return err
			}
			if f.every < 100*time.Millisecond || f.times < 0 || f.rows < 1 {
				return errors.New("--every is at least 100ms, -n at least 0, --rows at least 1")
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			l, err := api.FindTraffic(ctx, api.Dir(), f.pid)
			if err != nil {
				return err
			}
			defer l.Close()
			if err := f.run(ctx, l, cmd.OutOrStdout()); ctx.Err() == nil {
				return err
			}
			return nil
		},
	}
	f.addTo(cmd)
	cmd.Flags().DurationVar(&f.every, "every", 2*time.Second, "time between two looks")
	cmd.Flags().IntVarP(&f.times, "times", "n", 0, "how often, 0 for without end")
	cmd.Flags().IntVar(&f.rows, "rows", 20, "how many flows")
	return cmd
}

// busy is a flow and what went through it a second.
type busy struct {
	monitor.Flow
	Rate [2]float64 `json:"bytes_per_second"`
}

func (f *topFlags) run(ctx context.Context, l *api.Traffic, out io.Writer) error {
	before, err := readFlows(ctx, l, f.vm)
	if err != nil {
		return err
	}
	at := time.Now()
	redraw := out == os.Stdout && coloured(os.Stdout) && f.output == "text"
	for n := 1; ; n++ {
		select {
		case <-time.After(f.every):
		case <-ctx.Done():
			return ctx.Err()
		}
		now, err := readFlows(ctx, l, f.vm)
		if err != nil {
			return err
		}
		took := time.Since(at)
		at = time.Now()
		list := busiest(before, now, took)
		list = list[:min(len(list), f.rows)]
		before = now
		if redraw {
			fmt.Fprint(out, "\x1b[H\x1b[2J")
		}
		if err := f.print(out, list); err != nil {
			return err
		}
		if n == f.times {
			return nil
		}
	}
}

// flowKey tells flows apart: another one of the same ends begins at another time.
type flowKey struct {
	id    uint64
	vlan  uint16
	begun int64
}

func flowKeyOf(f *monitor.Flow) flowKey { return flowKey{f.ID, f.VLAN, f.Begun.UnixNano()} }

// busiest are the flows in which something moved, by how much.
func busiest(before, now []monitor.Flow, took time.Duration) (list []busy) {
	past := make(map[flowKey][2]uint64)
	for i := range before {
		past[flowKeyOf(&before[i])] = before[i].Bytes
	}
	for i := range now {
		b, old := busy{Flow: now[i]}, past[flowKeyOf(&now[i])]
		for side := range b.Rate {
			b.Rate[side] = float64(b.Bytes[side]-old[side]) / took.Seconds()
		}
		if b.Rate[0]+b.Rate[1] > 0 {
			list = append(list, b)
		}
	}
	slices.SortFunc(list, func(a, b busy) int { return cmp.Compare(b.Rate[0]+b.Rate[1], a.Rate[0]+a.Rate[1]) })
	return list
}

func (f *topFlags) print(out io.Writer, list []busy) error {
	if f.output == "json" {
		return printJSON(out, list)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "VLAN\tPROTO\tFROM\tTO\tSPEAKS\tSENDS\tGETS")
	for i := range list {
		b := &list[i]
		from, to := b.Ends()
		fmt.Fprintln(w, line(vlanOf(&b.Flow), b.Transport, flowEnd(b.SourceVM, from), flowEnd(b.DestinationVM, to), dash(b.Application),
			humanize.IBytes(uint64(b.Rate[0]))+"/s", humanize.IBytes(uint64(b.Rate[1]))+"/s"))
	}
	return w.Flush()
}
