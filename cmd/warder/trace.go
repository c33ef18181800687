package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"

	"warder/secmon/strace"
	"warder/supervisor/api"
)

// traceFlags say what to trace, and how to show it.
type traceFlags struct {
	sets   []string
	follow bool
	limit  int
	output string
	pids   []uint
	vm     string
	out    io.Writer
}

func traceCommand() *cobra.Command {
	f := runFlags{trace: &traceFlags{out: os.Stderr}}
	t := f.trace
	cmd := &cobra.Command{
		Use:   "trace [flags] -- CMD [ARG]...",
		Short: "Run a command in a VM of its own and print its system calls, as strace does",
		Long: `Run a command in a VM of its own, as warder run does, and print its system calls on
standard error in the form of strace. They are seen from outside: nothing is
installed in the guest, and its programs cannot tell.

With --vm nothing is run: the calls of all processes of a running VM are
printed, or of those that -p names, until Ctrl-C.`,
		Example: `  warder trace -- ls /
  warder trace -f -e trace=openat,execve -- sh -c 'cat /etc/passwd'
  warder trace --vm web -e %network -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 && t.vm == "":
				return failed(errors.New("which command should be traced? give it after --, or name a running VM by --vm"))
			case len(args) > 0 && t.vm != "":
				return failed(errors.New("--vm traces a VM that is running: leave the command out"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			f.args = args
			if err := t.check(); err != nil {
				return failed(err)
			}
			if t.vm != "" {
				t.out = cmd.OutOrStdout()
				return t.running(cmd.Context())
			}
			if f.lab != "" {
				return runInLab(cmd.Context(), f)
			}
			return run(cmd.Context(), f)
		},
	}
	f.addTo(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&f.env, "env", nil, "environment of the command, NAME=VALUE, or NAME to pass it on; may be repeated")
	flags.StringArrayVarP(&t.sets, "trace", "e", nil, "calls to print, as for strace: openat,execve or %file, %process, %network, %desc ..., !SET for all but those (default all)")
	flags.BoolVarP(&t.follow, "follow-forks", "f", false, "trace the threads and processes too that the command begins")
	flags.IntVarP(&t.limit, "string-limit", "s", 32, "bytes of a string or buffer to print at most")
	flags.StringVarP(&t.output, "output", "o", "text", "text or json: an event a line")
	flags.StringVar(&t.vm, "vm", "", "trace a VM that is running, by its name of warder ls")
	flags.UintSliceVarP(&t.pids, "attach", "p", nil, "processes of the VM to trace (with --vm; default all)")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return failed(err) })
	return cmd
}

func (t *traceFlags) check() error {
	if t.limit < 0 || t.limit > strace.MaxLimit {
		return fmt.Errorf("-s %d: give 0 to %d", t.limit, strace.MaxLimit)
	}
	if len(t.pids) > 0 && t.vm == "" {
		return errors.New("-p: only processes of a VM that is running have numbers, give --vm too")
	}
	if t.vm == "" {
		// The names of a running VM are for its process to know.
		if _, err := strace.ParseSet(runtime.GOARCH, t.sets); err != nil {
			return err
		}
	}
	return checkOutput(t.output)
}

// running traces a VM of another process.
func (t *traceFlags) running(ctx context.Context) error {
	vm, err := api.Find(ctx, api.Dir(), t.vm)
	if err != nil {
		return err
	}
	defer vm.Close()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	q := url.Values{"trace": t.sets, "limit": {strconv.Itoa(t.limit)}, "output": {t.output}}
	for _, pid := range t.pids {
		q.Add("pid", strconv.FormatUint(uint64(pid), 10))
	}
	if t.follow {
		q.Set("follow", "1")
	}
	for raw, err := range vm.Stream(ctx, "/trace", q) {
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if err := t.print(raw); err != nil {
			return err
		}
	}
	return nil
}
