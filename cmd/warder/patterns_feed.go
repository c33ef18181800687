package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"warder/secmon/pattern/feed"
)

func patternsUpdateCommand() *cobra.Command {
	var library, name, address, root string
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
			if name != "" || address != "" || root != "" {
				if err := addSource(library, name, address, root); err != nil {
					return err
				}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			sources, err := feed.Sources(library)
			if err != nil {
				return err
			}
			if len(sources) == 0 {
				return fmt.Errorf("%s has no source: add one with --name, --url and --root", library)
			}
			var errs []error
			for _, s := range sources {
				u, err := s.Update(ctx, library, time.Now())
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
	f := cmd.Flags()
	f.StringVar(&library, "library", "", "directory of the library")
	f.StringVar(&name, "name", "", "add a source: its name")
	f.StringVar(&address, "url", "", "add a source: where it is, https://, or a directory of this machine")
	f.StringVar(&root, "root", "", "add a source: the file of its root of trust")
	return cmd
}

func addSource(library, name, address, root string) error {
	if name == "" || address == "" || root == "" {
		return errors.New("a source has a --name, a --url and a --root")
	}
	text, err := os.ReadFile(root)
	if err != nil {
		return fmt.Errorf("--root: %w", err)
	}
	if !strings.Contains(address, "://") {
		abs, err := filepath.Abs(address)
		if err != nil {
			return err
		}
		address = "file://" + abs
	}
	return feed.Add(library, feed.Source{Name: name, URL: address, Root: text})
}

func patternsPublishCommand() *cobra.Command {
	var out, keys string
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
so that nobody can hide new rules from them. Keep the root key apart from the
others; it is needed only to make a repository.`,
		Example: "  warder patterns publish --out /srv/www/rules --keys ~/keys ./rules",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" || keys == "" {
				return errors.New("give --out, the repository's directory, and --keys, the directory of the keys")
			}
			p, err := feed.Publish(args[0], out, keys, time.Now())
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s, repository version %d\nusers trust it by %s\n", p.Pack.Name, p.Pack.Version, count(uint64(p.Files), "file"), p.Version, p.Root)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&out, "out", "", "directory of the repository")
	f.StringVar(&keys, "keys", "", "directory of the keys; they are made where there are none")
	return cmd
}
