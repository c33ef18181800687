package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"warder/supervisor/api"
	"warder/supervisor/hosting"
)

// usage is what a service uses, and what of it came since the look before.
type usage struct {
	hosting.Stats
	// CPUs is how many of the host's it took.
	CPUs float64 `json:"cpus"`
	// The rest is a second.
	Rate rates `json:"per_second"`
}

type rates struct {
	DiskRead      float64 `json:"disk_read"` // bytes
	DiskWritten   float64 `json:"disk_written"`
	DiskRequests  float64 `json:"disk_requests"`
	ShareRead     float64 `json:"share_read"`
	ShareWritten  float64 `json:"share_written"`
	ShareRequests float64 `json:"share_requests"`
	NetSent       float64 `json:"net_sent"`
	NetReceived   float64 `json:"net_received"`
	NetFrames     float64 `json:"net_frames"`
	Exits         float64 `json:"exits"`
}

// usages sets two looks beside each other. What was not there at the first began between
// the two, and has no rates yet.
func usages(before, now []hosting.Stats) []usage {
	list := make([]usage, len(now))
	for i, s := range now {
		list[i].Stats = s
		at := slices.IndexFunc(before, func(b hosting.Stats) bool { return b.Name == s.Name && b.Starts == s.Starts })
		if at < 0 {
			continue
		}
		was, took := before[at], s.Time.Sub(before[at].Time).Seconds()
		if took <= 0 {
			continue
		}
		rate := func(now, was uint64) float64 { return float64(now-min(was, now)) / took }
		list[i].CPUs = max(0, (s.CPUTime-was.CPUTime).Seconds()/took)
		list[i].Rate = rates{
			rate(s.DiskRead, was.DiskRead), rate(s.DiskWritten, was.DiskWritten), rate(s.DiskRequests, was.DiskRequests),
			rate(s.ShareRead, was.ShareRead), rate(s.ShareWritten, was.ShareWritten), rate(s.ShareRequests, was.ShareRequests),
			rate(s.NetSent, was.NetSent), rate(s.NetReceived, was.NetReceived), rate(s.NetFrames, was.NetFrames),
			rate(exits(s), exits(was)),
		}
	}
	return list
}

func exits(s hosting.Stats) (sum uint64) {
	for _, n := range s.Exits {
		sum += n
	}
	return sum
}

// looks are how often a command looks at what services use.
type looks struct {
	every time.Duration
	times int // 0 for without end
}

func (l looks) check() error {
	if l.every < 100*time.Millisecond || l.times < 0 {
		return errors.New("--every is at least 100ms, -n at least 0")
	}
	return nil
}

// each hands show what came between one look and the next.
func (l looks) each(ctx context.Context, h *api.Host, name string, show func([]usage) error) error {
	before, err := h.Stats(ctx, name)
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		select {
		case <-time.After(l.every):
		case <-ctx.Done():
			return nil
		}
		now, err := h.Stats(ctx, name)
		if err != nil {
			return over(ctx, err)
		}
		if err := show(usages(before, now)); err != nil {
			return err
		}
		if before = now; n == l.times {
			return nil
		}
	}
}

func (f *serviceFlags) stats() *cobra.Command {
	l := looks{times: 1}
	cmd := &cobra.Command{
		Use: "stats [NAME]", Short: "Show what services use", Args: cobra.MaximumNArgs(1), ValidArgsFunction: f.complete,
		Long: `Show what services have used since their VMs were started: CPU time and how much of
a CPU they take now, the memory that they were granted and how much of it takes
memory of the host, disks and network. LOAD, FREE and PRESSURE are the guest's own
word, and - where it does not say: a guest can lie.`,
		Example: `  warder service stats
  warder service stats web -o json`,
		RunE: f.on(func(ctx context.Context, h *api.Host, cmd *cobra.Command, args []string) error {
			if err := l.check(); err != nil {
				return err
			}
			name := ""
			if len(args) > 0 {
				name = args[0]
			}
			return l.each(ctx, h, name, func(list []usage) error {
				if f.output == "json" {
					return printJSON(cmd.OutOrStdout(), list)
				}
				return printUse(cmd.OutOrStdout(), list)
			})
		}),
	}
	cmd.Flags().DurationVar(&l.every, "every", time.Second, "time between the two looks that rates are of")
	return cmd
}

func (f *serviceFlags) top() *cobra.Command {
	var l looks
	rows := 0
	cmd := &cobra.Command{
		Use: "top", Short: "Show the services that use most, again and again", Args: cobra.NoArgs,
		Long: `Show what services took since the last look, the busiest first, again and again
until Ctrl-C.`,
		Example: `  warder service top --every 5s
  warder service top -n 1 -o json`,
		RunE: f.on(func(ctx context.Context, h *api.Host, cmd *cobra.Command, _ []string) error {
			if err := l.check(); err != nil {
				return err
			}
			ctx, stop := untilInterrupted(ctx)
			defer stop()
			out := cmd.OutOrStdout()
			redraw := out == os.Stdout && coloured(os.Stdout) && f.output == "text"
			return l.each(ctx, h, "", func(list []usage) error {
				slices.SortStableFunc(list, func(a, b usage) int { return cmp.Compare(b.CPUs, a.CPUs) })
				list = list[:min(len(list), rows)]
				if f.output == "json" {
					return printJSON(out, list)
				}
				if redraw {
					fmt.Fprint(out, "\x1b[H\x1b[2J")
				}
				return printRates(out, list)
			})
		}),
	}
	cmd.Flags().DurationVar(&l.every, "every", 2*time.Second, "time between two looks")
	cmd.Flags().IntVarP(&l.times, "times", "n", 0, "how often, 0 for without end")
	cmd.Flags().IntVar(&rows, "rows", 20, "how many services")
	return cmd
}

// guestCells are the guest's word: what it has free, its load, its pressure.
func guestCells(s *hosting.Stats) (free, load, pressure string) {
	if s.Guest == nil {
		return "-", "-", "-"
	}
	pressure = "-"
	if p := s.Guest.Pressure; p != nil {
		pressure = fmt.Sprintf("%.0f/%.0f/%.0f", p.CPU, p.Memory, p.IO)
	}
	return humanize.IBytes(s.Guest.MemoryAvailable), fmt.Sprintf("%.2f", s.Guest.Load[0]), pressure
}

// memoryCell is what a VM takes of the host's memory, of what it was granted.
func memoryCell(s *hosting.Stats) string {
	return humanize.IBytes(s.Used) + " of " + humanize.IBytes(s.Granted)
}

func printUse(out io.Writer, list []usage) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tCPU\tCPU TIME\tMEMORY\tFREE\tLOAD\tPRESSURE\tDISK IN/OUT\tFILES IN/OUT\tNET IN/OUT\tREQUESTS\tEXITS")
	for i := range list {
		u := &list[i]
		free, load, pressure := guestCells(&u.Stats)
		fmt.Fprintln(w, line(u.Name, percent(u.CPUs), u.CPUTime.Round(10*time.Millisecond), memoryCell(&u.Stats), free, load, pressure,
			humanize.IBytes(u.DiskRead)+"/"+humanize.IBytes(u.DiskWritten), humanize.IBytes(u.ShareRead)+"/"+humanize.IBytes(u.ShareWritten),
			humanize.IBytes(u.NetReceived)+"/"+humanize.IBytes(u.NetSent), u.Requests(), exits(u.Stats)))
	}
	return w.Flush()
}

func printRates(out io.Writer, list []usage) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tCPU\tMEMORY\tFREE\tLOAD\tPRESSURE\tDISK IN/OUT /s\tFILES IN/OUT /s\tNET IN/OUT /s\tREQUESTS /s\tEXITS /s")
	a := func(f float64) string { return humanize.IBytes(uint64(f)) }
	for i := range list {
		u := &list[i]
		free, load, pressure := guestCells(&u.Stats)
		fmt.Fprintln(w, line(u.Name, percent(u.CPUs), memoryCell(&u.Stats), free, load, pressure,
			a(u.Rate.DiskRead)+"/"+a(u.Rate.DiskWritten), a(u.Rate.ShareRead)+"/"+a(u.Rate.ShareWritten),
			a(u.Rate.NetReceived)+"/"+a(u.Rate.NetSent), uint64(u.Rate.DiskRequests+u.Rate.ShareRequests+u.Rate.NetFrames), uint64(u.Rate.Exits)))
	}
	return w.Flush()
}

// percent is a part of one CPU.
func percent(cpus float64) string { return fmt.Sprintf("%.1f%%", 100*cpus) }
