// Command warder runs services and single commands in small virtual machines
// of their own and watches all of them at once.
//
// A subcommand is one small file here: it turns flags and configuration into a
// call of the package that does the work, and the result into a table, JSON or
// an exit status.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"warder/lab/outer"
	"warder/supervisor/board"
)

func main() {
	if outer.IsInit() {
		outer.Main()
	}
	if board.IsInit() {
		board.Main()
	}
	os.Exit(execute(context.Background(), root()))
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "warder",
		Short:         "Run services that do not trust each other in small VMs, and watch all of them",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(
		runCommand(),
		bootCommand(),
		traceCommand(),
		hostCommand(),
		serviceCommand(),
		lsCommand(),
		lanCommand(),
		inspectCommand(),
		patternsCommand(),
		eventsCommand(),
		kernelCommand(),
		imageCommand(),
		ociCommand(),
		doctorCommand(),
		labCommand(),
	)
	return cmd
}

// exitStatus is an error that only carries the status warder exits with:
// what there was to say has been said.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func execute(ctx context.Context, cmd *cobra.Command) int {
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if s, ok := errors.AsType[exitStatus](err); ok {
		return int(s)
	}
	fmt.Fprintln(os.Stderr, "warder:", err)
	return 1
}
