package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"warder/secmon/pattern/feed"
)

func patternsUpdateCommand() *cobra.Command {
	var library, name, url, root string
	var placeholders placeholdersFlag
	cmd := &cobra.Command{
		Use:   "update --library DIR",
		Short: "Get the rules of all sources",
		Long: `A library is a directory with rules of several sources, each trusted by a root
of its own. With --name, --url and --root a source is added first. Of a source
whose answer is old, not signed, not whole, or has a faulty rule, the rules of
before stay in force.`,
		Example: `  warder patterns update --library /var/lib/warder/rules --name acme --url https://rules.acme.example --root 1.root.json
  warder patterns update --library /var/lib/warder/rules`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if library == "" {
				return errors.New("--library: give the directory of the library")
			}
			if name != "" || url != "" || root != "" {
				if err := addSource(library, name, url, root); err != nil {
					return err
				}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			opts, err := placeholders.options()
			if err != nil {
				return err
			}
			l := &feed.Library{Dir: library, Options: opts}
			sources, err := l.Sources()
			if err != nil {
				return err
			}
			if len(sources) == 0 {
				return fmt.Errorf("%s has no source: add one with --name, --url and --root", library)
			}
			var errs []error
			for _, s := range sources {
				u, err := l.Update(ctx, s, time.Now())
				if err != nil {
					errs = append(errs, err)
					continue
				}
				what := "as before"
				if u.Changed {
					what = "now in force"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s %s, %s, %s\n", s.Name, u.Pack.Name, u.Pack.Version, count(uint64(u.Rules), "rule"), what)
			}
			return errors.Join(errs...)
		},
	}
	placeholders.add(cmd)
	f := cmd.Flags()
	f.StringVar(&library, "library", "", "directory of the library")
	f.StringVar(&name, "name", "", "add a source: its name")
	f.StringVar(&url, "url", "", "add a source: where it is, https://, or a directory of this machine")
	f.StringVar(&root, "root", "", "add a source: the file of its root of trust")
	return cmd
}

func addSource(library, name, url, root string) error {
	if name == "" || url == "" || root == "" {
		return errors.New("a source has a --name, a --url and a --root")
	}
	text, err := os.ReadFile(root)
	if err != nil {
		return fmt.Errorf("--root: %w", err)
	}
	if url, err = address(".", url); err != nil {
		return err
	}
	return (&feed.Library{Dir: library}).Add(feed.Source{Name: name, URL: url, Root: text})
}

// address is where a source is: as given, or a directory of this machine.
func address(base, url string) (string, error) {
	if strings.Contains(url, "://") {
		return url, nil
	}
	dir, err := absolute(base, url)
	return "file://" + dir, err
}

func patternsPublishCommand() *cobra.Command {
	var out, keys string
	var placeholders placeholdersFlag
	cmd := &cobra.Command{
		Use:   "publish DIR",
		Short: "Make a signed repository of rules, for others to update from",
		Long: `DIR has rules and a file ` + feed.PackFile + `:

    name: acme
    version: 2026.11
    source: https://acme.example/rules
    licence: Apache-2.0
    minimum_warder: '0.1'

Rules with a fault or a sample that comes out wrong are not published. Publish
again at least once a week, also without changes: what users are told expires,
so that nobody can hide new rules from them. Keep the root key, root.pem, apart from
the others: it is needed to make a repository, and once a year, or to replace another
key that has been removed, to renew the root of trust. Users need nothing new then.`,
		Example: "  warder patterns publish --out /srv/www/rules --keys ~/keys ./rules",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" || keys == "" {
				return errors.New("give --out, the repository's directory, and --keys, the directory of the keys")
			}
			opts, err := placeholders.options()
			if err != nil {
				return err
			}
			p, err := feed.Publish(args[0], out, keys, opts, time.Now())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s, repository version %d\nusers trust it by %s, which is good until %s\n",
				p.Pack.Name, p.Pack.Version, count(uint64(p.Files), "file"), p.Version, p.Root, p.Expires.Format(time.DateOnly))
			return nil
		},
	}
	placeholders.add(cmd)
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "directory of the repository")
	f.StringVar(&keys, "keys", "", "directory of the keys; they are made where there are none")
	return cmd
}
