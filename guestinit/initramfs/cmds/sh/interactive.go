package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/term"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// interactive reads commands with line editing until the end of the input or
// exit. The terminal is raw only while a line is being typed.
func interactive(ctx context.Context, runner *interp.Runner) error {
	// An interrupt is for the command in the foreground. (Ignoring it instead
	// would be inherited.)
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)

	fd := int(os.Stdin.Fd())
	lines := term.NewTerminal(console{}, "")
	var last error
	for pending := ""; ; {
		prompt := "# "
		if os.Geteuid() != 0 {
			prompt = "$ "
		}
		if pending != "" {
			prompt = "> "
		}
		lines.SetPrompt(prompt)
		if cols, rows, err := term.GetSize(fd); err == nil && cols > 0 && rows > 0 {
			lines.SetSize(cols, rows)
		}
		state, err := term.MakeRaw(fd)
		if err != nil {
			return err
		}
		line, err := lines.ReadLine()
		term.Restore(fd, state)
		if err == io.EOF {
			fmt.Println()
			return last
		} else if err != nil {
			return err
		}
		pending += line + "\n"
		prog, err := syntax.NewParser().Parse(strings.NewReader(pending), "")
		if syntax.IsIncomplete(err) {
			continue
		}
		pending = ""
		if err == nil {
			err = redirections(prog)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "sh:", err)
			continue
		}
		last = nil
		for _, stmt := range prog.Stmts {
			last = runner.Run(ctx, stmt)
			if runner.Exited() {
				return last
			}
			if _, ok := interp.IsExitStatus(last); last != nil && !ok {
				fmt.Fprintln(os.Stderr, "sh:", last)
			}
		}
	}
}

// console is the terminal for the line editor, which takes Ctrl-C for the end
// of the input: it becomes Ctrl-U, which drops the line.
type console struct{}

func (console) Read(p []byte) (int, error) {
	n, err := os.Stdin.Read(p)
	for i, b := range p[:n] {
		if b == 3 {
			p[i] = 21
		}
	}
	return n, err
}

func (console) Write(p []byte) (int, error) { return os.Stdout.Write(p) }
