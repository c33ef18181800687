package api

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"

	"warder/secmon/gdbstub"
	"warder/secmon/gdbvm"
)

// gdbProtocol names what a connection is upgraded to: GDB's remote protocol.
const gdbProtocol = "gdb-remote"

// gdb makes the request's connection that of a debugger.
func (s *Server) gdb(h *Hosted, w http.ResponseWriter, r *http.Request) {
	if h.Machine == nil {
		fail(w, &Error{Code: Unavailable, Message: "this VM cannot be debugged"})
		return
	}
	if r.Header.Get("Upgrade") != gdbProtocol {
		fail(w, &Error{Code: BadRequest, Message: "the request does not upgrade its connection to " + gdbProtocol})
		return
	}
	target, err := gdbvm.Of(h.Machine, gdbvm.Config{Kernel: h.Kernel, Log: s.log}).Attach()
	if err != nil {
		fail(w, err)
		return
	}
	c, b, err := http.NewResponseController(w).Hijack()
	if err != nil {
		fail(w, err)
		return
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", gdbProtocol); err != nil {
		return // it has gone
	}
	if err := gdbstub.Serve(r.Context(), buffered{c, b.Reader}, target); err != nil {
		s.log.Warn("debugger", "vm", h.Name, "err", err)
	}
}

// buffered is a connection of which some has been read ahead.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// GDB connects to the VM as to the target of a debugger.
func (r *Remote) GDB(ctx context.Context) (net.Conn, error) {
	return r.client.upgrade(ctx, http.MethodGet, r.path("/gdb"), gdbProtocol, nil)
}

// upgrade makes a request that makes its connection one of another protocol.
func (c *Client) upgrade(ctx context.Context, method, path, protocol string, body []byte) (net.Conn, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, explainTLS(err)
	}
	// Until there is an answer; then the connection is the caller's.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	fail := func(err error) (net.Conn, error) {
		stop()
		conn.Close()
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://warder"+path, bytes.NewReader(body))
	if err != nil {
		return fail(err)
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", protocol)
	if err := req.Write(conn); err != nil {
		return fail(err)
	}
	b := bufio.NewReader(conn)
	resp, err := http.ReadResponse(b, req)
	if err != nil {
		return fail(explainTLS(err))
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return fail(answerError(resp))
	}
	if !stop() {
		return fail(ctx.Err())
	}
	return buffered{conn, b}, nil
}
