// Command sh is the shell of the base image: POSIX syntax with most of Bash's
// extensions, by mvdan.cc/sh, without job control.
//
//	sh [-eux] [-c COMMAND [NAME [ARG...]] | FILE [ARG...]]
//
// Without either it reads commands from standard input, with line editing on
// a terminal.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

func main() {
	err := run(os.Args[1:])
	if status, ok := interp.IsExitStatus(err); ok {
		os.Exit(int(status))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sh:", err)
		if errors.Is(err, os.ErrNotExist) {
			os.Exit(127)
		}
		os.Exit(2) // as shells do for syntax errors
	}
}

// invocation is what the arguments ask for.
type invocation struct {
	options []string // for interp.Params
	command *string
	name    string // $0
	params  []string
}

func parseArgs(args []string) (invocation, error) {
	inv := invocation{name: "sh"}
	takeCommand := false
	for len(args) > 0 {
		a := args[0]
		if a == "--" {
			args = args[1:]
			break
		}
		if len(a) < 2 || a[0] != '-' && a[0] != '+' {
			break
		}
		args = args[1:]
		for _, f := range a[1:] {
			switch f {
			case 'c':
				takeCommand = true
			case 'i', 'l', 's': // decided by what standard input is
			default:
				inv.options = append(inv.options, a[:1]+string(f))
			}
		}
	}
	if takeCommand {
		if len(args) == 0 {
			return inv, errors.New("-c: no command")
		}
		inv.command, args = &args[0], args[1:]
	}
	if len(args) > 0 {
		inv.name, inv.params = args[0], args[1:]
	}
	return inv, nil
}

func run(args []string) error {
	inv, err := parseArgs(args)
	if err != nil {
		return err
	}
	params := append(append(inv.options, "--"), inv.params...)
	runner, err := interp.New(
		interp.Interactive(false),
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr),
		interp.Params(params...),
	)
	if err != nil {
		return err
	}
	ctx := context.Background()
	switch {
	case inv.command != nil:
		return script(ctx, runner, strings.NewReader(*inv.command), inv.name)
	case len(args) > 0 && inv.name != "sh":
		f, err := os.Open(inv.name)
		if err != nil {
			return err
		}
		defer f.Close()
		return script(ctx, runner, f, inv.name)
	case term.IsTerminal(int(os.Stdin.Fd())):
		return interactive(ctx, runner)
	}
	return script(ctx, runner, os.Stdin, inv.name)
}

func script(ctx context.Context, runner *interp.Runner, r io.Reader, name string) error {
	prog, err := syntax.NewParser().Parse(r, name)
	if err == nil {
		err = redirections(prog)
	}
	if err != nil {
		return err
	}
	return runner.Run(ctx, prog)
}
