package api

import (
	"context"
	"fmt"
	"net/http"

	"warder/supervisor/hosting"
)

// attachService ties the connection to the command that a service runs: its output from
// here on and, with ?stdin=, its input. The command does not notice when it ends.
func attachService(host *hosting.Host, w http.ResponseWriter, r *http.Request) error {
	if r.Header.Get("Upgrade") != execProtocol {
		return &Error{Code: BadRequest, Message: "the request does not upgrade its connection to " + execProtocol}
	}
	name := r.PathValue("service")
	a, err := host.Attach(name)
	if err != nil {
		return err
	}
	defer a.Close()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	out := &frames{}
	said := orders{size: func(s Size) { _ = a.Resize(ctx, s.Columns, s.Rows) }} // of a terminal, if it has one
	if r.URL.Query().Get("stdin") != "" {
		if !a.HasInput() {
			return &Error{Code: BadRequest, Message: fmt.Sprintf("%s has no input: declare it with stdin or tty", name)}
		}
		said.input = newInput(func(n int) { _ = out.tell(frameCredit, n) })
		defer said.input.end()
	}
	out.mu.Lock()
	b, err := out.begin(w)
	out.mu.Unlock()
	if err != nil {
		return nil // it has gone
	}
	defer out.w.Close()
	if said.input != nil {
		go typeInto(ctx, a, said.input)
	}
	go func() {
		defer cancel()
		said.take(ctx, b)
	}()
	_ = a.Follow(ctx, func(p hosting.Piece) error { return sendPiece(out, p) }) // it may have gone
	return nil
}

// typeInto hands a client's input to the command as it takes it.
func typeInto(ctx context.Context, a *hosting.Attachment, from *input) {
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		if err != nil || a.Type(ctx, buf[:n]) != nil {
			return
		}
	}
}

// sendPiece tells a client of a piece of output.
func sendPiece(out *frames, p hosting.Piece) error {
	if p.Lost > 0 {
		if err := out.tell(frameLost, p.Lost); err != nil {
			return err
		}
	}
	switch {
	case p.Err != nil:
		return out.tell(frameExit, Exit{Error: execError(p.Err).(*Error)})
	case p.Exit != nil:
		return out.tell(frameExit, Exit{Status: *p.Exit})
	}
	kind := byte(frameOutput)
	if p.Stream == "stderr" {
		kind = frameError
	}
	_, err := frameWriter{out, kind}.Write(p.Data)
	return err
}
