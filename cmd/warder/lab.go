package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"warder/lab"
)

// statusTimeout is what timeout(1) exits with.
const statusTimeout = 124

var errLabTimeout = errors.New("the command was killed after its timeout")

type labFlags struct {
	cfg     lab.Config
	memory  uint64 // MiB
	files   []string
	results string
	env     []string
	dir     string
	tty     bool
	timeout time.Duration
	prepare bool
	quiet   bool
	qemu    string
}

func labCommand() *cobra.Command {
	var f labFlags
	cmd := &cobra.Command{
		Use:   "lab [flags] -- CMD [ARG]...",
		Short: "Run a command on an emulated machine that has KVM",
		Long: `Run a command in the lab: a Linux machine emulated by QEMU, of either
architecture, in which /dev/kvm is a real KVM, whatever this machine has.

A CMD that is a path of a file here is taken along. What the command writes to
/results comes back with --results. The exit status is the command's; 125
means that the lab itself failed.`,
		Example: `  warder lab -- warder doctor
  warder lab --arch arm64 -t -- warder run -t -- sh
  warder lab --results out --icount -- ./bench.test -test.bench .`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 && !f.prepare {
				return failed(errors.New("which command should run in the lab? give it after --"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runLab(cmd.Context(), f, args) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return failed(err) })
	flags := cmd.Flags()
	flags.SetInterspersed(false)
	flags.StringVar(&f.cfg.Arch, "arch", "", "architecture, amd64 or arm64 (default this machine's)")
	flags.IntVar(&f.cfg.CPUs, "cpus", 0, "CPUs, which one of this machine's emulates by turns (default 1)")
	flags.Uint64Var(&f.memory, "memory", 2048, "memory in MiB; files count twice")
	flags.StringVar(&f.cfg.Kernel, "kernel", "", "outer kernel (default the guest kernel of warder kernel pull)")
	flags.StringSliceVar(&f.cfg.Modules, "module", nil, "kernel modules for --kernel, in order")
	flags.StringVar(&f.qemu, "qemu", "", "directory of unpacked QEMU packages (default the installed QEMU, or one fetched)")
	flags.StringVar(&f.cfg.Init, "init", "", "the machine's /init (default warder for its architecture)")
	flags.StringArrayVar(&f.files, "file", nil, "take a file or directory along, HOST[:GUEST]")
	flags.StringSliceVar(&f.cfg.Packages, "package", nil, "Debian packages to have in the machine")
	flags.StringVar(&f.results, "results", "", "directory here for what the command leaves in /results")
	flags.StringArrayVar(&f.env, "env", nil, "environment of the command, NAME=VALUE")
	flags.StringVar(&f.dir, "dir", "", "working directory of the command in the machine")
	flags.BoolVarP(&f.tty, "tty", "t", false, "give the command a terminal")
	flags.BoolVar(&f.cfg.ICount, "icount", false, "count instructions and print how many the command took")
	flags.DurationVar(&f.timeout, "timeout", 0, "kill the command after this time (default never)")
	flags.BoolVar(&f.prepare, "prepare", false, "only fetch what the lab needs")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print only what the command prints")
	return cmd
}

func runLab(ctx context.Context, f labFlags, args []string) error {
	f.cfg.Memory = f.memory << 20
	f.cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level(f.quiet)}))
	for _, s := range f.files {
		file, err := parseFile(s)
		if err != nil {
			return failed(err)
		}
		f.cfg.Files = append(f.cfg.Files, file)
	}
	f.cfg.Guests = f.cfg.Init == "" // with warder in the machine, a guest kernel
	if f.qemu != "" {
		q, err := lab.Unpacked(f.qemu, cmp.Or(f.cfg.Arch, runtime.GOARCH))
		if err != nil {
			return failed(err)
		}
		f.cfg.QEMU = q
	}
	if f.prepare {
		if _, err := lab.Prepare(ctx, f.cfg); err != nil {
			return failed(err)
		}
		return nil
	}
	c := lab.Command{Args: args, Env: f.env, Dir: f.dir, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if f.results != "" {
		c.Results, c.ResultsTo = "/results", f.results
		c.Env = append(c.Env, "WARDER_RESULTS=/results")
	}
	if path, ok := ownFile(args[0]); ok {
		f.cfg.Files = append(f.cfg.Files, lab.File{Host: path, Guest: path})
		c.Args = append([]string{path}, args[1:]...)
	}
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, f.timeout, errLabTimeout)
		defer cancel()
	}
	return labExit(ctx, lab.Run, f.cfg, c, f.tty)
}

// labExit runs c by run and turns how it ended into this command's result.
func labExit(ctx context.Context, run func(context.Context, lab.Config, lab.Command) (lab.Exit, error), cfg lab.Config, c lab.Command, tty bool) error {
	ctx, restore, err := attach(ctx, &c, tty)
	if err != nil {
		return failed(err)
	}
	exit, err := run(ctx, cfg, c)
	restore()
	switch {
	case errors.Is(err, errLabTimeout):
		exit.Status = statusTimeout
	case err != nil && exit.Status == 0:
		exit.Status = statusFailed
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "warder lab:", err)
	} else if cfg.ICount {
		fmt.Fprintf(os.Stderr, "warder lab: %d instructions\n", exit.Time.Nanoseconds())
	}
	if exit.Status != 0 {
		return exitStatus(exit.Status)
	}
	return nil
}

func level(quiet bool) slog.Level {
	if quiet {
		return slog.LevelError
	}
	return slog.LevelInfo
}

// parseFile parses HOST[:GUEST]; without GUEST the path is the same.
func parseFile(s string) (lab.File, error) {
	host, guest, ok := strings.Cut(s, ":")
	host, err := filepath.Abs(host)
	if err != nil {
		return lab.File{}, err
	}
	if !ok {
		guest = host
	}
	if !filepath.IsAbs(guest) {
		return lab.File{}, fmt.Errorf("--file %s: the path in the machine must be absolute", s)
	}
	return lab.File{Host: host, Guest: guest}, nil
}

// ownFile returns the absolute path of a command that is a file here. A plain
// name is looked up in the machine instead, and so is what is not here.
func ownFile(name string) (string, bool) {
	if !strings.Contains(name, "/") {
		return "", false
	}
	path, err := filepath.Abs(name)
	if err != nil {
		return "", false
	}
	info, err := os.Stat(path)
	return path, err == nil && info.Mode().IsRegular()
}

// attach connects c with this process's signals and, with tty, its terminal.
// restore undoes it.
func attach(ctx context.Context, c *lab.Command, tty bool) (_ context.Context, restore func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGWINCH)
	passed := make(chan int)
	resized := make(chan [2]uint16)
	c.Signals = passed
	raw := func() {}
	if fd := int(os.Stdin.Fd()); tty {
		if !term.IsTerminal(fd) {
			cancel(nil)
			return nil, nil, errors.New("-t: standard input is not a terminal")
		}
		state, err := term.MakeRaw(fd)
		if err != nil {
			cancel(nil)
			return nil, nil, fmt.Errorf("-t: %w", err)
		}
		raw = func() { _ = term.Restore(fd, state) }
		size := terminalSize()
		c.Terminal = &lab.Terminal{Columns: size[0], Rows: size[1], Resized: resized}
	}
	go pass(ctx, cancel, signals, passed, resized)
	return ctx, func() {
		signal.Stop(signals)
		raw()
		cancel(nil)
	}, nil
}

// insist is how many interrupts it takes to end the lab and not only to tell
// the command.
const insist = 3

func pass(ctx context.Context, end context.CancelCauseFunc, signals <-chan os.Signal, passed chan<- int, resized chan<- [2]uint16) {
	interrupts := 0
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			if s == unix.SIGWINCH {
				select {
				case resized <- terminalSize():
				case <-time.After(time.Second): // no command, or none with a terminal
				}
				continue
			}
			n, _ := s.(unix.Signal)
			select {
			case passed <- int(n):
			case <-time.After(time.Second):
				interrupts = insist // no command yet
			}
			if interrupts++; interrupts >= insist {
				end(errors.New("interrupted"))
			}
		}
	}
}

func terminalSize() [2]uint16 {
	columns, rows, err := term.GetSize(int(os.Stdin.Fd()))
	if err != nil {
		return [2]uint16{80, 24}
	}
	return [2]uint16{uint16(columns), uint16(rows)}
}
