package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"warder/vmm/hostinfo"
)

func doctorCommand() *cobra.Command {
	var output, device string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host offers to virtual machines, and what to do about what it lacks",
		Long: `Looks at the host and changes nothing. The exit status is 0 when "warder run"
will work here, and 1 when it will not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return fmt.Errorf("output %q is unknown: table or json", output)
			}
			r := hostinfo.Probe(device)
			addGuest(&r)
			if err := printReport(cmd.OutOrStdout(), &r, output); err != nil {
				return err
			}
			if !r.Ready {
				return exitStatus(1)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cmd.Flags().StringVar(&device, "kvm", "", "the KVM device (default /dev/kvm)")
	return cmd
}

func printReport(w io.Writer, r *hostinfo.Report, output string) error {
	if output == "json" {
		return printJSON(w, r)
	}
	width, colour := 0, false
	if f, ok := w.(*os.File); ok {
		width, _, _ = term.GetSize(int(f.Fd())) // 0 where it is no terminal
		colour = coloured(f)
	}
	_, err := io.WriteString(w, reportTable(r, width, colour))
	return err
}

// reportTable is the report in lines of at most width cells; 0 is any width.
func reportTable(r *hostinfo.Report, width int, colour bool) string {
	nameWidth := 0
	for _, i := range r.Items {
		nameWidth = max(nameWidth, len(i.Name))
	}
	indent := nameWidth + len("  x   ")
	var b strings.Builder
	group := ""
	for _, i := range r.Items {
		if i.Group != group {
			if group != "" {
				b.WriteByte('\n')
			}
			group = i.Group
			b.WriteString(paint(colour, bold, group) + "\n")
		}
		fmt.Fprintf(&b, "  %s %-*s  %s\n", mark(i, colour), nameWidth, i.Name, hang(describe(i, colour), indent, width))
		if !i.Present && i.Todo != "" {
			fmt.Fprintf(&b, "%*s%s\n", indent, "", hang("what to do: "+i.Todo, indent, width))
		}
	}
	return b.String() + "\n" + verdict(r, colour) + "\n"
}

func mark(i hostinfo.Item, colour bool) string {
	switch {
	case i.Present:
		return paint(colour, green, "✓")
	case i.Required:
		return paint(colour, red, "✗")
	}
	return paint(colour, yellow, "-")
}

// describe is the value of a thing that is there and what it is for, or what is
// lost without it.
func describe(i hostinfo.Item, colour bool) string {
	if !i.Present {
		lost := "missing"
		if i.Value != "" {
			lost = i.Value
		}
		if i.Use != "" {
			lost += "; lost: " + i.Use
		}
		return lost
	}
	switch {
	case i.Use == "":
		return i.Value
	case i.Value == "":
		return paint(colour, dim, i.Use)
	}
	return i.Value + "  " + paint(colour, dim, i.Use)
}

// hang wraps s so that it ends at width when it starts at indent, where the
// lines after the first start too.
func hang(s string, indent, width int) string {
	if width < indent+20 {
		return s
	}
	var b strings.Builder
	at := indent
	for i, word := range strings.Split(s, " ") {
		switch n := cells(word); {
		case i > 0 && at+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent + n
		case i > 0:
			b.WriteByte(' ')
			at += 1 + n
		default:
			at += n
		}
		b.WriteString(word)
	}
	return b.String()
}

func verdict(r *hostinfo.Report, colour bool) string {
	if r.Ready {
		return paint(colour, green, "ready:") + " warder run will work here"
	}
	var names []string
	for _, i := range r.Missing() {
		if i.Required {
			names = append(names, i.Name)
		}
	}
	return paint(colour, red, "not ready:") + " warder run needs " + strings.Join(names, ", ")
}
