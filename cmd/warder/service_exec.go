package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"warder/guestinit/proto"
	"warder/supervisor/api"
)

// execFlags are a command line of warder service exec.
type execFlags struct {
	env        []string
	dir, user  string
	tty, stdin bool
}

func (f *serviceFlags) exec() *cobra.Command {
	var x execFlags
	cmd := &cobra.Command{
		Use:   "exec [flags] NAME [--] CMD [ARG]...",
		Short: "Run a command in the VM of a service that runs",
		Long: `Run a further command in the VM of a service, which needs no network. Its exit
status and streams are those of the command, as with warder run.`,
		Example: `  warder service exec web -- ps
  warder service exec -it web -- sh`,
		Args: cobra.MinimumNArgs(2), ValidArgsFunction: f.complete,
		RunE: f.on(func(ctx context.Context, h *api.Host, _ *cobra.Command, args []string) error {
			if args[1] == "--" {
				args = append(args[:1:1], args[2:]...)
			}
			if len(args) < 2 {
				return failed(errors.New("which command should run in the VM? give it after --"))
			}
			return x.run(ctx, h, args[0], args[1:])
		}),
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.StringArrayVarP(&x.env, "env", "e", nil, "environment of the command, NAME=VALUE; may be repeated")
	flags.StringVarP(&x.dir, "workdir", "w", "", "working directory of the command")
	flags.StringVarP(&x.user, "user", "u", "", "user of the command, NAME[:GROUP] or numbers")
	flags.BoolVarP(&x.tty, "tty", "t", false, "give the command a terminal")
	flags.BoolVarP(&x.stdin, "interactive", "i", false, "give the command this standard input")
	return cmd
}

func (x execFlags) run(ctx context.Context, h *api.Host, name string, args []string) error {
	req := api.Exec{Command: proto.Command{Args: args, Env: x.env, Dir: x.dir, User: x.user, TTY: x.tty}, Stdin: x.stdin}
	stdin := int(os.Stdin.Fd())
	if x.tty {
		if x.stdin && !term.IsTerminal(stdin) {
			return failed(errors.New("-t with -i: standard input is not a terminal, leave -t out"))
		}
		if t := os.Getenv("TERM"); t != "" {
			req.Env = append(req.Env, "TERM="+t)
		}
		size := terminalSize()
		req.Cols, req.Rows = size[0], size[1]
	}
	c, err := h.Exec(ctx, name, req)
	if err != nil {
		return notRun(err)
	}
	var in io.Reader
	if x.stdin {
		in = os.Stdin
	}
	if x.tty && x.stdin {
		state, err := term.MakeRaw(stdin)
		if err != nil {
			return failed(fmt.Errorf("-t: %w", err))
		}
		defer term.Restore(stdin, state)
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH)
	defer signal.Stop(signals)
	running, done := context.WithCancel(ctx)
	defer done()
	go passSignals(running, c, signals)
	exit, err := c.Run(ctx, in, os.Stdout, os.Stderr)
	if err != nil {
		return failed(err)
	}
	if exit.Error != nil {
		return notRun(exit.Error)
	}
	if code := exit.Status.ExitCode(); code != 0 {
		return exitStatus(code)
	}
	return nil
}

// passSignals hands this process's signals to the command.
func passSignals(ctx context.Context, c *api.Command, signals <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			if s == syscall.SIGWINCH {
				size := terminalSize()
				_ = c.Resize(api.Size{Columns: size[0], Rows: size[1]}) // or the command has ended
				continue
			}
			n, _ := s.(syscall.Signal)
			_ = c.Signal(int(n))
		}
	}
}

// passSizes hands this terminal's sizes to the command, until what it returns is called.
func passSizes(ctx context.Context, c *api.Command) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGWINCH)
	ctx, cancel := context.WithCancel(ctx)
	go passSignals(ctx, c, signals)
	return func() {
		signal.Stop(signals)
		cancel()
	}
}

// notRun says why a command did not run, with the exit status of warder run.
func notRun(err error) error {
	fmt.Fprintln(os.Stderr, "warder:", strings.TrimSpace(err.Error()))
	if e, ok := errors.AsType[*api.Error](err); ok {
		switch e.Code {
		case api.NoCommand:
			return exitStatus(statusNotFound)
		case api.NotExecutable:
			return exitStatus(statusNotExecutable)
		}
	}
	return exitStatus(statusFailed)
}
