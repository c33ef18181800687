package api

import (
	"errors"
	"net/http"
	"runtime"

	"warder/secmon/introspect"
)

// dump answers GET /v1/vms/{vm}/dump with an ELF core file, which goes out while
// it is made. ?pause=1 has the machine stand still meanwhile. A guest whose
// kernel is not found is dumped without what only that knows.
func dump(h *Hosted, w http.ResponseWriter, r *http.Request) {
	// One that somebody else has paused stays as it is.
	if r.URL.Query().Get("pause") != "" && !h.Machine.Paused() {
		if err := h.Machine.Pause(); err != nil {
			fail(w, &Error{Code: Unavailable, Message: err.Error()})
			return
		}
		defer h.Machine.Resume()
	}
	l, err := h.live(r.Context())
	if err != nil && r.Context().Err() != nil {
		return
	}
	out := &patient{ResponseController: http.NewResponseController(w), ResponseWriter: w}
	w.Header().Set("Content-Type", "application/x-elf")
	if l != nil {
		err = l.Dump(r.Context(), out)
	} else if core, e := introspect.Core(h.target, runtime.GOARCH); e == nil {
		w.Header().Set("Warning", `199 - "the guest's kernel was not found: `+err.Error()+`"`)
		err = core.Write(out)
	} else {
		err = errors.Join(err, e)
	}
	switch {
	case err != nil && !out.begun:
		fail(w, coded(err))
	case err != nil:
		panic(http.ErrAbortHandler) // a dump that is cut off is to look like one
	}
}
