package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"warder/supervisor/api"
	"warder/supervisor/mirror"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// hostStatus is how a host fares.
type hostStatus struct {
	PID       int            `json:"pid"` // 0 at a socket that is shared
	Resources verify.Balance `json:"resources"`
	// Supervisor is nil at a socket that is shared.
	Supervisor *mirror.Status `json:"supervisor,omitempty"`
	// CPUs is how many of the machine's the services took over the last second.
	CPUs     float64                `json:"cpus"`
	Services map[services.State]int `json:"services"` // how many
	Waiting  []services.Status      `json:"waiting"`
}

func hostStatusCommand() *cobra.Command {
	f := &serviceFlags{}
	cmd := &cobra.Command{
		Use: "status", Short: "Show what a host has committed, uses and has free, and who waits", Args: cobra.NoArgs,
		Example: `  warder host status
  warder host status -o json`,
		RunE: f.on(func(ctx context.Context, h *api.Host, cmd *cobra.Command, _ []string) error {
			s, err := statusOf(ctx, h)
			if err != nil {
				return err
			}
			if f.output == "json" {
				return printJSON(cmd.OutOrStdout(), s)
			}
			return s.print(cmd.OutOrStdout())
		}),
	}
	f.addTo(cmd)
	return cmd
}

func statusOf(ctx context.Context, h *api.Host) (s hostStatus, err error) {
	s = hostStatus{PID: h.PID, Services: make(map[services.State]int), Waiting: []services.Status{}}
	if h.PID != 0 {
		st, err := h.Supervisor(ctx)
		if err != nil {
			return s, err
		}
		s.Supervisor = &st
	}
	l := looks{every: time.Second, times: 1}
	if err := l.each(ctx, h, "", func(list []usage) error {
		for _, u := range list {
			s.CPUs += u.CPUs
		}
		return nil
	}); err != nil {
		return s, err
	}
	if s.Resources, err = h.Resources(ctx); err != nil {
		return s, err
	}
	all, err := h.Services(ctx)
	for _, st := range all {
		s.Services[st.State]++
		if st.State == services.Waiting {
			s.Waiting = append(s.Waiting, st)
		}
	}
	return s, err
}

func (s *hostStatus) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if s.Supervisor != nil {
		printSupervisor(w, *s.Supervisor)
	}
	printResources(w, s.Resources, percent(s.CPUs))
	fmt.Fprintln(w)
	for _, state := range []services.State{services.Running, services.Starting, services.Stopping, services.Waiting, services.Failed, services.Ended, services.Stopped} {
		if n := s.Services[state]; n > 0 {
			fmt.Fprintf(w, "%s\t%s\n", state, count(uint64(n), "service"))
		}
	}
	if len(s.Waiting) > 0 {
		fmt.Fprintln(w, "\nWAITS\tSINCE\tWHY")
	}
	for _, st := range s.Waiting {
		fmt.Fprintf(w, "%s\t%s\t%s\n", st.Name, ago(st.Since), short(st.Why))
	}
	printWaiting(w, s.Resources.Waiting)
	return w.Flush()
}

// printWaiting prints who wants more than there is, if anybody does.
func printWaiting(w io.Writer, list []verify.Waiting) {
	if len(list) > 0 {
		fmt.Fprintln(w, "\nWANTS MORE THAN THERE IS\tPRIORITY\tTO\tFOR")
	}
	for _, p := range list {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", p.Service, p.Priority, p.For, ago(p.Since))
	}
}

// printSupervisor says how the supervisor fares, in lines of their own.
func printSupervisor(w io.Writer, s mirror.Status) {
	state := "up"
	if !s.Up {
		state = "not there"
	}
	fmt.Fprintf(w, "supervisor: %s since %s, mirrored %s\n", state, ago(s.Since), times(s.Mirrors))
	if s.Reason != "" {
		fmt.Fprintf(w, "  the last time: %s; another one answered after %v\n", short(s.Reason), s.Took.Round(time.Millisecond))
	}
	if s.Failed != "" {
		fmt.Fprintf(w, "  it could not be made: %s\n", short(s.Failed))
	}
	fmt.Fprintln(w)
}

func times(n int) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// printResources prints what of each resource is committed, used and free.
func printResources(w io.Writer, b verify.Balance, cpus string) {
	row := func(name, used string, committed, capacity uint64, text func(uint64) string) {
		free, all := "no bound", "no bound"
		if capacity > 0 {
			free, all = text(capacity-min(capacity, committed)), text(capacity)
		}
		if name == "memory" && b.Promisable < math.MaxUint64 {
			free = text(b.Promisable) // which what others use makes less
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, text(committed), used, free, all)
	}
	number := func(n uint64) string { return fmt.Sprint(n) }
	fmt.Fprintln(w, "RESOURCE\tCOMMITTED\tUSED\tFREE\tCAPACITY")
	row("vms", "-", uint64(b.Committed.Holders), uint64(b.Capacity.Holders), number)
	row("vcpus", cpus, uint64(b.Committed.VCPUs), uint64(b.Capacity.VCPUs), number)
	row("memory", humanize.IBytes(b.Used), b.Committed.Memory, b.Capacity.Memory, humanize.IBytes)
}
