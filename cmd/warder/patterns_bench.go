package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"warder/secmon/pattern/measure"
)

// The sizes of libraries whose compilation is timed.
var compiled = []int{210, 5000}

func patternsBenchCommand() *cobra.Command {
	var output string
	var o measure.Options
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure how fast rules are evaluated on this machine",
		Long: `Rules are evaluated on events of everyday work, of which none, one or ten in a
hundred are replaced by events that rules match, and the same rules one by one
beside it. "A core" is by the CPU time taken, so that other work on the machine
does not change it; times from an event to its alert are by the clock, and do
change. With --rules, the rules of a directory are measured together with those
that come with warder.`,
		Args: cobra.NoArgs,
	}
	rules := rulesFlag(cmd)
	cmd.Flags().Lookup("rules").Usage = "directory of rules, beside those that come with warder"
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().DurationVar(&o.For, "for", time.Second, "how long each measurement takes")
	cmd.Flags().IntVar(&o.Workers, "workers", 0, "how many goroutines share the events (default one a CPU)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(output); err != nil {
			return err
		}
		if o.For <= 0 || o.Workers < 0 {
			return errors.New("--for and --workers: give more than nothing")
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		l, err := rules.withShipped()
		if err != nil {
			return err
		}
		results, err := measure.Library(ctx, l, o)
		if err != nil {
			return err
		}
		for _, n := range compiled {
			r, err := measure.Compile(n)
			if err != nil {
				return err
			}
			results = append(results, r)
		}
		if output == "json" {
			return printJSON(cmd.OutOrStdout(), results)
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(cmd.OutOrStdout(), "%d rules\n", len(l.Rules))
		for _, r := range results {
			fmt.Fprintf(w, "%s\t%.*f\t %s\t\n", r.Name, digits(r.Value), r.Value, r.Unit)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		for _, line := range measure.Goals(results) {
			fmt.Fprintln(cmd.OutOrStdout(), line)
		}
		return nil
	}
	return cmd
}

// digits is how many a value has behind the point that say something.
func digits(v float64) int {
	if v < 10 {
		return 2
	}
	return 0
}
