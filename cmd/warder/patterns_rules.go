package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"warder/secmon/pattern"
	"warder/secmon/pattern/feed"
	"warder/secmon/pattern/sigma"
)

// rulesFlags say which rules a command is about.
type rulesFlags struct {
	dir    string
	others string // directory of a library of sources
	placeholdersFlag
}

// placeholdersFlag is the file of the values that rules have placeholders for.
type placeholdersFlag struct{ file string }

func (p *placeholdersFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.file, "placeholders", "", "file of the values of placeholders in rules, each a list by its name")
}

func (p *placeholdersFlag) options() (opts sigma.Options, err error) {
	if p.file == "" {
		return opts, nil
	}
	src, err := os.ReadFile(p.file)
	if err != nil {
		return opts, fmt.Errorf("--placeholders: %w", err)
	}
	if err := yaml.UnmarshalWithOptions(src, &opts.Placeholders, yaml.Strict()); err != nil {
		return opts, fmt.Errorf("--placeholders %s: give lists by name, as admins: [root, admin]: %s", p.file, yaml.FormatError(err, false, true))
	}
	return opts, nil
}

// rulesFlag adds --rules and --placeholders to a command.
func rulesFlag(cmd *cobra.Command) *rulesFlags {
	f := &rulesFlags{}
	cmd.Flags().StringVar(&f.dir, "rules", "", "directory of rules, in place of those that come with warder")
	cmd.Flags().StringVar(&f.others, "library", "", "directory of a library, whose sources have rules beside them")
	f.add(cmd)
	return f
}

// library is the rules of the directory, or those that come with warder, and of
// the sources of a library.
func (f *rulesFlags) library() (*pattern.Library, error) {
	l, err := f.feed()
	if err != nil {
		return nil, err
	}
	rules, left, err := l.Load()
	if err := errors.Join(append(left, err)...); err != nil {
		return nil, err
	}
	return rules, nil
}

// feed is the library that the flags name.
func (f *rulesFlags) feed() (*feed.Library, error) {
	opts, err := f.options()
	if err != nil {
		return nil, err
	}
	l := &feed.Library{Dir: f.others, Options: opts}
	if f.dir != "" {
		l.Base = func() ([]*sigma.Rule, error) { return readRules(f.dir, opts) }
	}
	if f.others != "" {
		if sources, err := l.Sources(); err == nil && len(sources) == 0 {
			return nil, fmt.Errorf("--library: %s has no source", f.others)
		}
	}
	return l, nil
}

// listSources lists the packs of the library's sources.
func (f *rulesFlags) listSources(out io.Writer) error {
	l, err := f.feed()
	if err != nil {
		return err
	}
	sources, err := l.Sources()
	if err != nil || len(sources) == 0 {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SOURCE\tPACK\tVERSION\tLICENCE\tWHOSE\tADDRESS")
	for _, s := range sources {
		if p, ok := l.Pack(s); ok {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.Name, p.Name, p.Version, p.Licence, p.Origin, s.URL)
		} else {
			fmt.Fprintf(w, "%s\t(nothing yet)\t\t\t\t%s\n", s.Name, s.URL)
		}
	}
	fmt.Fprintln(w)
	return w.Flush()
}

// withShipped is the rules of the directory, if there is one, beside those that
// come with warder.
func (f *rulesFlags) withShipped() (*pattern.Library, error) {
	if f.dir == "" {
		return f.library()
	}
	rules, err := pattern.ShippedRules()
	if err != nil {
		return nil, err
	}
	opts, err := f.options()
	if err != nil {
		return nil, err
	}
	more, err := readRules(f.dir, opts)
	if err != nil {
		return nil, err
	}
	return pattern.NewLibrary(append(rules, more...))
}

func readRules(dir string, opts sigma.Options) ([]*sigma.Rule, error) {
	st, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	if !st.IsDir() {
		return nil, errors.New("rules: " + dir + " is a file: give the directory that it is in")
	}
	return pattern.ReadRules(os.DirFS(dir), opts)
}
