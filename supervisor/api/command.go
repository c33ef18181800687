package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// A Command is a command in a service's VM whose streams are those of this process.
type Command struct {
	conn net.Conn
	r    io.Reader
	out  *frames

	// Lost, if set, is told how many bytes of output did not come: of a command that is
	// attached, what this process was too slow for.
	Lost func(bytes uint64)
}

// connect makes a request that is answered with a command.
func (h *Host) connect(ctx context.Context, path string, body []byte) (*Command, error) {
	c, err := h.client.upgrade(ctx, http.MethodPost, path, execProtocol, body)
	if err != nil {
		return nil, err
	}
	return &Command{conn: c, r: bufio.NewReader(c), out: &frames{w: c}}, nil
}

// Exec starts a command in the VM of a service. Give it to [Command.Run].
func (h *Host) Exec(ctx context.Context, name string, x Exec) (*Command, error) {
	body, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	return h.connect(ctx, servicePath(name, "/exec"), body)
}

// Attach connects to the command that a service runs, with its input if stdin is set.
// Give it to [Command.Run], which then ends with the command, or with its ctx, which the
// command survives.
func (h *Host) Attach(ctx context.Context, name string, stdin bool) (*Command, error) {
	q := url.Values{}
	if stdin {
		q.Set("stdin", "1")
	}
	return h.connect(ctx, servicePath(name, "/attach")+"?"+q.Encode(), nil)
}

// Run carries input and output until the command ends; in is nil without input.
// A Read of in that blocks then stays behind. When ctx ends first, a command that was
// started by [Host.Exec] is killed.
func (c *Command) Run(ctx context.Context, in io.Reader, out, errs io.Writer) (Exit, error) {
	defer c.conn.Close()
	defer context.AfterFunc(ctx, func() { c.conn.Close() })()
	allowed := newCredit()
	defer allowed.end()
	if in != nil {
		go allowed.send(in, c.out)
	}
	for {
		kind, b, err := readFrame(c.r)
		if err != nil {
			if ctx.Err() != nil {
				err = ctx.Err()
			}
			return Exit{}, fmt.Errorf("the command was cut off: %w", err)
		}
		switch kind {
		case frameOutput:
			_, err = out.Write(b)
		case frameError:
			_, err = errs.Write(b)
		case frameLost:
			var n uint64
			if err = json.Unmarshal(b, &n); err == nil && c.Lost != nil {
				c.Lost(n)
			}
		case frameCredit:
			var n int
			err = json.Unmarshal(b, &n)
			allowed.add(n)
		case frameExit:
			var x Exit
			return x, json.Unmarshal(b, &x)
		}
		if err != nil {
			return Exit{}, err
		}
	}
}

// Signal sends a signal, by its Linux number.
func (c *Command) Signal(n int) error { return c.out.tell(frameSignal, n) }

// Resize changes the size of the command's terminal.
func (c *Command) Resize(s Size) error { return c.out.tell(frameSize, s) }
