package api

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/supervisor/services"
)

// execProtocol names what a connection is upgraded to: frames of a byte that says
// what it is, a length of four bytes, big-endian, and so many bytes.
const execProtocol = "warder-exec"

// The frames of execProtocol, to the server and from it.
const (
	frameInput    = 'i' // of the command
	frameInputEnd = 'e'
	frameSize     = 's' // Size as JSON
	frameSignal   = 'k' // the signal's number as JSON
	frameOutput   = 'o'
	frameError    = 'f' // what the command wrote to standard error
	frameExit     = 'x' // Exit as JSON; the last frame
)

// maxFrame bounds a frame's bytes.
const maxFrame = 64 << 10

// Exec is the body of a request for a command in a service's VM.
type Exec struct {
	proto.Command
	// Stdin says that the command is to have input; without it has none.
	Stdin bool `json:"stdin,omitempty"`
}

// Exit is how such a command ended.
type Exit struct {
	Status proto.Status `json:"status"`
	Error  *Error       `json:"error,omitempty"`
}

// Size is that of a terminal, in characters.
type Size struct {
	Columns uint16 `json:"columns"`
	Rows    uint16 `json:"rows"`
}

// execService runs a command in the VM of a service, tied to the connection: it is
// killed when that ends.
func execService(set *services.Set, w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get("Upgrade") != execProtocol {
		return &Error{Code: BadRequest, Message: "the request does not upgrade its connection to " + execProtocol}
	}
	var x Exec
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, proto.MaxFrame))
	d.DisallowUnknownFields()
	if err := d.Decode(&x); err != nil || len(x.Args) == 0 {
		return &Error{Code: BadRequest, Message: fmt.Sprintf("the command to run: %v", errors.Join(err))}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	out := &frames{}
	stdio := control.Stdio{Out: frameWriter{out, frameOutput}, Err: frameWriter{out, frameError}}
	var input *io.PipeWriter
	if x.Stdin {
		var in *io.PipeReader
		in, input = io.Pipe()
		stdio.In = in
		defer in.Close()
	}
	out.mu.Lock() // no output before the answer
	p, err := set.Exec(ctx, r.PathValue("service"), x.Command, stdio)
	if err != nil {
		out.mu.Unlock()
		return execError(err)
	}
	c, b, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_, err = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", execProtocol)
	}
	out.w = c
	out.mu.Unlock()
	if err != nil {
		if c != nil {
			c.Close()
		}
		cancel()
		p.Wait(ctx) // which kills it
		return nil
	}
	defer c.Close()
	go func() {
		defer cancel() // the client has gone, or has been told how it ended
		takeFrames(ctx, b, input, p)
	}()
	status, err := p.Wait(ctx)
	exit := Exit{Status: status}
	if _, ok := errors.AsType[*control.OutputError](err); err != nil && !ok {
		exit.Error = execError(err).(*Error)
	}
	last, err := json.Marshal(exit)
	if err == nil {
		out.write(frameExit, last) // it may have gone
	}
	return nil
}

// execError gives an error of a command that did not run, or was cut off, its
// code.
func execError(err error) error {
	if e, ok := errors.AsType[*proto.Error](err); ok {
		code := Internal
		switch e.Code {
		case proto.CodeNotFound:
			code = NoCommand
		case proto.CodeNotExecutable:
			code = NotExecutable
		case proto.CodeBadRequest:
			code = BadRequest
		}
		return &Error{Code: code, Message: e.Error()}
	}
	if e, ok := errors.AsType[*Error](codedService(err)); ok {
		return e
	}
	return &Error{Code: Internal, Message: err.Error()}
}

// takeFrames does what a client says until it is gone.
func takeFrames(ctx context.Context, r io.Reader, input *io.PipeWriter, p services.Process) {
	for {
		kind, b, err := readFrame(r)
		if err != nil {
			return
		}
		switch kind {
		case frameInput:
			if input == nil {
				return
			}
			if _, err := input.Write(b); err != nil {
				input = nil // the command has ended, or takes no more
			}
		case frameInputEnd:
			if input != nil {
				input.Close()
			}
		case frameSize:
			var s Size
			if json.Unmarshal(b, &s) == nil {
				go p.Resize(ctx, s.Columns, s.Rows) // what is lost is a size
			}
		case frameSignal:
			var n int
			if json.Unmarshal(b, &n) == nil {
				go p.Signal(ctx, n)
			}
		default:
			return
		}
	}
}

// frames writes frames whole, from any number of goroutines.
type frames struct {
	mu sync.Mutex
	w  net.Conn
}

func (f *frames) write(kind byte, p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return writeFrame(f.w, kind, p)
}

// frameWriter makes frames of a stream.
type frameWriter struct {
	to   *frames
	kind byte
}

func (w frameWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		part := p[n:min(len(p), n+maxFrame)]
		if err := w.to.write(w.kind, part); err != nil {
			return n, err
		}
		n += len(part)
	}
	return n, nil
}

const frameHead = 5 // bytes

func writeFrame(w io.Writer, kind byte, p []byte) error {
	b := make([]byte, 0, frameHead+len(p))
	b = binary.BigEndian.AppendUint32(append(b, kind), uint32(len(p)))
	_, err := w.Write(append(b, p...))
	return err
}

func readFrame(r io.Reader) (kind byte, p []byte, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("a frame of %d bytes: there are %d at most", n, maxFrame)
	}
	p = make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		return 0, nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	return head[0], p, nil
}
