package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/term"

	"warder/lab/bench/measure"
)

// printTable shows a report to a person: a table a benchmark, in which each
// line is a quantity and each column a peer, then the goals.
func printTable(w io.Writer, r *measure.Report) error {
	var b bytes.Buffer
	for _, key := range slices.Sorted(maps.Keys(r.About)) {
		fmt.Fprintf(&b, "%s: %s\n", key, r.About[key])
	}
	for _, bench := range benchmarksOf(r) {
		peers, quantities := axes(r, bench)
		fmt.Fprintf(&b, "\n")
		tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintf(tw, "%s\t\t%s\t\n", bench, strings.Join(peers, "\t"))
		for _, q := range quantities {
			fmt.Fprintf(tw, "%s\t%s\t", q.name, q.unit)
			for _, p := range peers {
				cell := "-"
				if x, ok := r.Find(bench+"/"+q.name, p); ok {
					cell = number(x.Median())
				}
				fmt.Fprintf(tw, "%s\t", cell)
			}
			fmt.Fprintln(tw)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
		for _, a := range r.Absent {
			if a.Name == bench {
				fmt.Fprintf(&b, "%s was not measured: %s\n", a.Peer, a.Why)
			}
		}
	}
	fmt.Fprintln(&b)
	printGoals(&b, r, isTerminal(w))
	_, err := w.Write(b.Bytes())
	return err
}

func printGoals(w io.Writer, r *measure.Report, colour bool) {
	for _, g := range goals {
		text, met, ok := g.verdict(r)
		if !ok {
			continue
		}
		word, code := "met", "32"
		if !met {
			word, code = "missed", "31"
		}
		if colour {
			word = "\x1b[" + code + "m" + word + "\x1b[0m"
		}
		fmt.Fprintf(w, "%s: %s\n", text, word)
	}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// benchmarksOf are the benchmarks that r is of, in its order.
func benchmarksOf(r *measure.Report) (names []string) {
	add := func(name string) {
		name, _, _ = strings.Cut(name, "/")
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, x := range r.Results {
		add(x.Name)
	}
	for _, a := range r.Absent {
		add(a.Name)
	}
	return names
}

type quantity struct{ name, unit string }

// axes are the columns and the lines of a benchmark's table.
func axes(r *measure.Report, bench string) (peers []string, quantities []quantity) {
	for _, x := range r.Results {
		name, ok := strings.CutPrefix(x.Name, bench+"/")
		if !ok {
			continue
		}
		if !slices.Contains(peers, x.Peer) {
			peers = append(peers, x.Peer)
		}
		if q := (quantity{name, x.Unit}); !slices.Contains(quantities, q) {
			quantities = append(quantities, q)
		}
	}
	return peers, quantities
}

// number is a value with as many digits as say something.
func number(v float64) string {
	switch {
	case v >= 100 || v == float64(int64(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// save writes the report and its plot to files named after the architecture.
func save(r *measure.Report, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := r.Write(&b); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, r.Arch+".json"), b.Bytes(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, r.Arch+".svg"), plot(r), 0o644)
}
