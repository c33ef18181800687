package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"warder/supervisor/api"
)

// inspectFlags are what all of warder inspect have in common.
type inspectFlags struct {
	output string
	pid    int
	pause  bool
}

func inspectCommand() *cobra.Command {
	f := &inspectFlags{}
	cmd := &cobra.Command{
		Use:   "inspect VM WHAT [ARG]...",
		Short: "Look into a running guest from outside",
		Long: `Look into a running guest from outside: at what its kernel has in memory, without
asking anybody in it and without stopping it. VM is a name of warder ls.

Nothing is installed in the guest. What its own tools are made to hide is
shown, and marked HIDDEN where the kernel's own records disagree.

` + inspectHelp(),
		Example: `  warder inspect web ps
  warder inspect web files 1 -o json`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: completeInspect,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			if err := checkOutput(f.output); err != nil {
				return err
			}
			if len(args) == 1 {
				return fmt.Errorf("what of %s should be shown?\n\n%s", args[0], inspectHelp())
			}
			return f.run(cmd.Context(), cmd.OutOrStdout(), args[0], args[1], args[2:])
		},
	}
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text or json")
	cmd.Flags().IntVar(&f.pid, "pid", 0, "read and write: the memory of this process, not the kernel's")
	cmd.Flags().BoolVar(&f.pause, "pause", false, "dump: have the machine stand still meanwhile")
	return cmd
}

// completeInspect completes the name of a VM, then what there is to see.
func completeInspect(cmd *cobra.Command, args []string, _ string) (words []string, _ cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		vms, _ := api.List(cmd.Context(), api.Dir())
		for _, vm := range vms {
			words = append(words, vm.Name)
		}
	case 1:
		for _, s := range subjects() {
			words = append(words, s.name+"\t"+s.help)
		}
	default:
		return nil, cobra.ShellCompDirectiveDefault
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// A subject is something to inspect.
type subject struct {
	name, args, help string
	// run asks the VM and prints.
	run func(ctx context.Context, v *inspection) error
}

// inspection is a look at one VM.
type inspection struct {
	*inspectFlags
	vm   *api.Remote
	out  io.Writer
	json bool
	args []string
}

func inspectHelp() string {
	s := "What there is to see:\n\n"
	for _, sub := range subjects() {
		s += fmt.Sprintf("  %-28s %s\n", sub.name+" "+sub.args, sub.help)
	}
	return s
}

func (f *inspectFlags) run(ctx context.Context, out io.Writer, name, what string, args []string) error {
	for _, s := range subjects() {
		if s.name != what {
			continue
		}
		vm, err := api.Find(ctx, api.Dir(), name)
		if err != nil {
			return err
		}
		defer vm.Close()
		return s.run(ctx, &inspection{f, vm, out, f.output == "json", args})
	}
	return fmt.Errorf("there is no %q to inspect\n\n%s", what, inspectHelp())
}

// list is a subject that is a list of T, a row each.
func list[T any](name, help, header string, row func(T) string) subject {
	return subject{name, "", help, func(ctx context.Context, v *inspection) error {
		if len(v.args) > 0 {
			return fmt.Errorf("%s takes no argument %q", name, v.args[0])
		}
		return show(ctx, v, name, nil, header, row)
	}}
}

// ofPID is a subject that is a list about a process, the guest's first by default.
func ofPID[T any](name, help, header string, row func(T) string) subject {
	return subject{name, "[PID]", help, func(ctx context.Context, v *inspection) error {
		query := url.Values{}
		switch len(v.args) {
		case 0:
		case 1:
			if _, err := strconv.Atoi(v.args[0]); err != nil {
				return fmt.Errorf("%s %s: give the number of a process", name, v.args[0])
			}
			query.Set("pid", v.args[0])
		default:
			return fmt.Errorf("%s takes one process", name)
		}
		return show(ctx, v, name, query, header, row)
	}}
}

// show prints a list as a table, or each item as a line of JSON.
func show[T any](ctx context.Context, v *inspection, name string, query url.Values, header string, row func(T) string) error {
	return showAt(ctx, v, "/inspect/"+name, query, header, row)
}

func showAt[T any](ctx context.Context, v *inspection, path string, query url.Values, header string, row func(T) string) error {
	w := tabwriter.NewWriter(v.out, 0, 0, 2, ' ', 0)
	if !v.json {
		fmt.Fprintln(w, header)
	}
	for raw, err := range v.vm.Stream(ctx, path, query) {
		if err != nil {
			return errors.Join(err, w.Flush())
		}
		if v.json {
			if _, err := fmt.Fprintf(v.out, "%s\n", raw); err != nil {
				return err
			}
			continue
		}
		var item T
		if err := json.Unmarshal(raw, &item); err != nil {
			return err
		}
		fmt.Fprintln(w, row(item))
	}
	return w.Flush()
}

// items asks for a whole list.
func items[T any](ctx context.Context, v *inspection, name string, query url.Values) ([]T, error) {
	var all []T
	for raw, err := range v.vm.Stream(ctx, "/inspect/"+name, query) {
		if err != nil {
			return all, err
		}
		var item T
		if err := json.Unmarshal(raw, &item); err != nil {
			return all, err
		}
		all = append(all, item)
	}
	return all, nil
}
