package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"warder/supervisor/api"
)

// detachKeys end an attachment: Ctrl-P, then Ctrl-Q.
const detachKeys = "\x10\x11"

func (f *serviceFlags) attach() *cobra.Command {
	var noStdin bool
	cmd := f.named("attach", "Be attached to the command that a service runs", func(ctx context.Context, h *api.Host, _ *cobra.Command, args []string) error {
		s, err := h.Service(ctx, args[0])
		if err != nil {
			return err
		}
		return joinCommand(ctx, h, args[0], s.Service.TTY, !noStdin && (s.Service.TTY || s.Service.Stdin))
	})
	cmd.Long = `Show what the command of a service writes from here on and, if it is declared with
stdin or tty, hand it what is typed here. Ctrl-P Ctrl-Q ends that, and Ctrl-C where
there is no terminal; the command goes on. When the command ends, the exit status is
its own.`
	cmd.Flags().BoolVar(&noStdin, "no-stdin", false, "only look")
	return cmd
}

// joinCommand ties this process's streams to the command of a service.
func joinCommand(ctx context.Context, h *api.Host, name string, tty, stdin bool) error {
	ctx, stop := untilInterrupted(ctx)
	defer stop()
	c, err := h.Attach(ctx, name, stdin)
	if err != nil {
		return notRun(err)
	}
	c.Lost = func(n uint64) { fmt.Fprintf(os.Stderr, "warder: %d bytes of output came too fast and are lost\n", n) }
	var in io.Reader
	if stdin {
		keys := &detaching{r: os.Stdin, detach: stop}
		in = keys
		if fd := int(os.Stdin.Fd()); tty && term.IsTerminal(fd) {
			state, err := term.MakeRaw(fd)
			if err != nil {
				return failed(err)
			}
			defer term.Restore(fd, state)
		}
	}
	if tty && term.IsTerminal(int(os.Stdout.Fd())) {
		size := terminalSize()
		_ = c.Resize(api.Size{Columns: size[0], Rows: size[1]}) // or the command has ended
		defer passSizes(ctx, c)()
	}
	exit, err := c.Run(ctx, in, os.Stdout, os.Stderr)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil // detached
	case err != nil:
		return failed(err)
	case exit.Error != nil:
		return failed(errors.New(strings.TrimSpace(exit.Error.Message)))
	case exit.Status.ExitCode() != 0:
		return exitStatus(exit.Status.ExitCode())
	}
	return nil
}

// detaching is input until the keys come that end it.
type detaching struct {
	r      io.Reader
	detach func()

	held bool // the first key has come, and not been handed on
	over bool // both have
	rest []byte
}

// Read hands on all that comes before the keys. It has one caller at a time.
func (d *detaching) Read(p []byte) (int, error) {
	for len(d.rest) == 0 {
		if d.over {
			d.detach()
			return 0, io.ErrClosedPipe
		}
		buf := make([]byte, len(p))
		n, err := d.r.Read(buf)
		for _, b := range buf[:n] {
			d.key(b)
		}
		if err != nil && len(d.rest) == 0 && !d.over {
			return 0, err
		}
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

// key takes what was typed next.
func (d *detaching) key(b byte) {
	switch {
	case d.over:
	case b == detachKeys[0] && !d.held:
		d.held = true
	case b == detachKeys[1] && d.held:
		d.over = true
	case d.held: // the first was typed for itself
		d.rest = append(d.rest, detachKeys[0])
		if d.held = b == detachKeys[0]; !d.held {
			d.rest = append(d.rest, b)
		}
	default:
		d.rest = append(d.rest, b)
	}
}
