package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"warder/secmon/event"
	"warder/secmon/pattern"
	"warder/secmon/trap"
)

func patternsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "patterns",
		Short: "Show, check and try the rules that attacks are found by",
		Long: `Rules are Sigma rules: detections, correlations and filters, and splices of
warder's own. Without --rules these commands are about those that come with
warder. docs/patterns.md describes them.`,
	}
	cmd.AddCommand(patternsListCommand(), patternsShowCommand(), patternsLintCommand(), patternsTestCommand(), patternsExplainCommand(),
		patternsBenchCommand(), patternsUpdateCommand(), patternsPublishCommand())
	return cmd
}

// patternRow is a rule as list prints it.
type patternRow struct {
	ID        string   `json:"id"`
	Title     string   `json:"title"`
	Level     string   `json:"level"`
	Kind      string   `json:"kind"`
	Part      bool     `json:"part"` // of other rules, without an alert of its own
	Responses []string `json:"responses"`
	Tags      []string `json:"tags"`
	File      string   `json:"file"`
}

func row(l *pattern.Library, r *pattern.Rule) patternRow {
	p := patternRow{Part: !l.Alerts(r), ID: r.Key(), Title: r.Title, Level: r.Level, Kind: "detection", Tags: r.Tags, File: r.File()}
	if r.Correlation != nil {
		p.Kind = r.Correlation.Type
	}
	for _, x := range r.Responses {
		p.Responses = append(p.Responses, string(x))
	}
	return p
}

func patternsListCommand() *cobra.Command {
	var output string
	var all bool
	cmd := &cobra.Command{Use: "list", Short: "List the rules", Args: cobra.NoArgs}
	rules := rulesFlag(cmd)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also rules that are only parts of others")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(output); err != nil {
			return err
		}
		l, err := rules.library()
		if err != nil {
			return err
		}
		var rows []patternRow
		for _, r := range l.Rules {
			rows = append(rows, row(l, r))
		}
		if output == "json" {
			return printJSON(cmd.OutOrStdout(), rows)
		}
		if err := rules.listSources(cmd.OutOrStdout()); err != nil {
			return err
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "LEVEL\tKIND\tRESPONSE\tTITLE\tID")
		parts := 0
		for _, r := range rows {
			if r.Part && !all {
				parts++
				continue
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Level, r.Kind, strings.Join(r.Responses, ","), r.Title, r.ID)
		}
		if parts > 0 {
			fmt.Fprintf(w, "and %d that are only parts of others (--all)\n", parts)
		}
		return w.Flush()
	}
	return cmd
}

func patternsShowCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "show ID|NAME", Short: "Show what a rule is about", Args: cobra.ExactArgs(1)}
	rules := rulesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l, err := rules.library()
		if err != nil {
			return err
		}
		for _, r := range l.Rules {
			if r.ID != args[0] && r.Name != args[0] && r.Title != args[0] {
				continue
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s\n\n%s\n", r.Title, r.Description)
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			p := row(l, r)
			for _, f := range [][2]string{
				{"id", p.ID}, {"name", r.Name}, {"level", r.Level}, {"status", r.Status}, {"kind", p.Kind}, {"log source", r.Source.String()},
				{"response", strings.Join(p.Responses, ", ")}, {"tags", strings.Join(r.Tags, " ")}, {"false positives", strings.Join(r.FalsePositives, "; ")},
				{"samples", fmt.Sprintf("%d positive, %d negative", len(r.Samples.Positive), len(r.Samples.Negative))}, {"file", r.File()},
			} {
				if f[1] != "" {
					fmt.Fprintf(t, "%s:\t%s\n", f[0], f[1])
				}
			}
			return t.Flush()
		}
		return fmt.Errorf("no rule %q: warder patterns list has all", args[0])
	}
	return cmd
}

func patternsLintCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lint",
		Short: "Check that rules load, and say what they need",
		Long: `Every rule must be understood in full: a fault is shown with its place. What a
rule needs to see and is not traced is told, too.`,
		Args: cobra.NoArgs,
	}
	rules := rulesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		l, err := rules.library()
		if err != nil {
			return err
		}
		n := l.Needs()
		w := cmd.OutOrStdout()
		fmt.Fprintf(w, "%d rules are good\n", len(l.Rules))
		fmt.Fprintf(w, "system calls that they need: %s\n", strings.Join(n.Syscalls, " "))
		if unseen := slices.DeleteFunc(slices.Clone(n.Syscalls), trap.Known); len(unseen) > 0 {
			fmt.Fprintf(w, "of these cannot be trapped: %s\n", strings.Join(unseen, " "))
			for _, call := range unseen {
				for _, r := range n.By[call] {
					fmt.Fprintf(w, "%s: %q does not see %s\n", r.File(), r.Title, call)
				}
			}
		}
		for _, r := range n.Open {
			fmt.Fprintf(w, "%s: %q would have to see every system call; it sees those that other rules need\n", r.File(), r.Title)
		}
		return nil
	}
	return cmd
}

func patternsTestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "test",
		Short: "Run the samples that rules bring along",
		Long:  "A rule's positive samples must raise its alert, its negative ones must not.",
		Args:  cobra.NoArgs,
	}
	rules := rulesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		l, err := rules.library()
		if err != nil {
			return err
		}
		samples, failures, err := l.Test()
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		for _, f := range failures {
			fmt.Fprintln(w, f)
		}
		fmt.Fprintf(w, "%d samples of %d rules, %d as they should not be\n", samples, len(l.Rules), len(failures))
		if len(failures) > 0 {
			return exitStatus(1)
		}
		return nil
	}
	return cmd
}

func patternsExplainCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "explain EVENTFILE",
		Short: "Say for each rule how far it gets on recorded events, and why it stops",
		Long: `EVENTFILE has an event a line, as "warder host -o json" prints them; - is the
standard input.`,
		Args: cobra.ExactArgs(1),
	}
	rules := rulesFlag(cmd)
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also rules of whose log source there is no event")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l, err := rules.library()
		if err != nil {
			return err
		}
		in := cmd.InOrStdin()
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			in = f
		}
		events, err := readEvents(in)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		found, err := l.Explain(events, pattern.DefaultLimits)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		fmt.Fprintf(w, "%d events\n", len(events))
		for _, x := range found {
			switch {
			case x.Alerts > 0:
				fmt.Fprintf(w, "\n%s\n  %s\n", x.Rule.Title, count(uint64(x.Alerts), "alert"))
			case x.Matches > 0:
				fmt.Fprintf(w, "\n%s\n  matches %s, as a part of others\n", x.Rule.Title, count(uint64(x.Matches), "event"))
			case all || x.Near():
				fmt.Fprintf(w, "\n%s\n  %s\n", x.Rule.Title, strings.Join(x.Lines, "\n  "))
			}
		}
		return nil
	}
	return cmd
}

// maxEventLine bounds one line of an event file.
const maxEventLine = 4 << 20

// readEvents reads an event a line.
func readEvents(r io.Reader) ([]event.Event, error) {
	var events []event.Event
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxEventLine)
	for n := 1; s.Scan(); n++ {
		if len(strings.TrimSpace(s.Text())) == 0 {
			continue
		}
		var e event.Event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if e.Kind != event.Alert {
			events = append(events, e)
		}
	}
	return events, s.Err()
}
