package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"warder/secmon/introspect"
)

// Written is the answer to a write.
type Written struct {
	Addr  introspect.Pointer `json:"addr"`
	Bytes int                `json:"bytes"`
}

// maxAccess bounds what is read or written at once, in bytes.
const maxAccess = 16 << 20

// readMemory answers GET /v1/vms/{vm}/memory?at=EXPR&length=N&pid=P with the
// bytes. The header Warder-Address has where they are.
func readMemory(h *Hosted, w http.ResponseWriter, r *http.Request) {
	p, at, err := func() ([]byte, uint64, error) {
		n, err := number(r.URL.Query(), "length", 256)
		if err != nil {
			return nil, 0, err
		}
		if n == 0 || n > maxAccess {
			return nil, 0, &Error{Code: BadRequest, Message: fmt.Sprintf("length %d: give 1 to %d", n, maxAccess)}
		}
		l, pid, at, err := h.place(r)
		if err != nil {
			return nil, 0, err
		}
		p := make([]byte, n)
		return p, at, l.Read(r.Context(), pid, at, p)
	}()
	if err != nil {
		fail(w, coded(err))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set(addressHeader, introspect.Pointer(at).String())
	w.Write(p)
}

const addressHeader = "Warder-Address"

// writeMemory answers PUT to the same place, with the bytes as the body.
func writeMemory(h *Hosted, w http.ResponseWriter, r *http.Request) {
	p, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAccess))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			err = &Error{Code: BadRequest, Message: fmt.Sprintf("more than %d bytes to write", maxAccess)}
		}
		fail(w, err)
		return
	}
	l, pid, at, err := h.place(r)
	if err == nil {
		err = l.Write(r.Context(), pid, at, p)
	}
	if err != nil {
		fail(w, coded(err))
		return
	}
	reply(w, Written{introspect.Pointer(at), len(p)})
}

// place is where a request wants to read or write.
func (h *Hosted) place(r *http.Request) (l *introspect.Live, pid int, at uint64, err error) {
	q := r.URL.Query()
	if pid, err = number(q, "pid", 0); err != nil {
		return nil, 0, 0, err
	}
	if l, err = h.live(r.Context()); err != nil {
		return nil, 0, 0, err
	}
	at, err = l.Resolve(r.Context(), q.Get("at"))
	return l, pid, at, err
}
