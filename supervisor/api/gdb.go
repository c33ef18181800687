package api

import (
	"bufio"
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
		fail(w, &Error{Unavailable, "this VM cannot be debugged"})
		return
	}
	if r.Header.Get("Upgrade") != gdbProtocol {
		fail(w, &Error{BadRequest, "the request does not upgrade its connection to " + gdbProtocol})
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
	c, err := new(net.Dialer).DialContext(ctx, "unix", r.client.path)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://warder"+r.path("/gdb"), nil)
	if err != nil {
		c.Close()
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", gdbProtocol)
	if err := req.Write(c); err != nil {
		c.Close()
		return nil, err
	}
	b := bufio.NewReader(c)
	resp, err := http.ReadResponse(b, req)
	if err != nil {
		c.Close()
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer c.Close()
		return nil, answerError(resp)
	}
	return buffered{c, b}, nil
}
