package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"warder/guestinit/control"
	"warder/guestinit/proto"
	"warder/supervisor/hosting"
)

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
func execService(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
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
	said := orders{}
	if x.Stdin {
		said.input = newInput(func(n int) { _ = out.tell(frameCredit, n) }) // to who may have gone
		stdio.In = said.input
		defer said.input.end()
	}
	out.mu.Lock() // no output before the answer
	p, err := host.Exec(ctx, r.PathValue("service"), x.Command, stdio)
	if err != nil {
		out.mu.Unlock()
		return execError(err)
	}
	b, err := out.begin(w)
	out.mu.Unlock()
	if err != nil {
		cancel()
		p.Wait(ctx) // which kills it
		return nil
	}
	defer out.w.Close()
	said.size = func(s Size) { _ = p.Resize(ctx, s.Columns, s.Rows) } // what is lost is a size
	said.signal = func(n int) { _ = p.Signal(ctx, n) }
	go func() {
		defer cancel() // the client has gone, or has been told how it ended
		said.take(ctx, b)
	}()
	status, err := p.Wait(ctx)
	exit := Exit{Status: status}
	if _, ok := errors.AsType[*control.OutputError](err); err != nil && !ok {
		exit.Error = execError(err).(*Error)
	}
	_ = out.tell(frameExit, exit) // it may have gone
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
