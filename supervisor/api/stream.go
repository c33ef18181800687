package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// stream answers with the values that produce hands to put, a line each, and
// then with its error if there is one. put fails when the client is gone, or
// has not read for writeTimeout. Lines are sent when there are some kilobytes of
// them, and at the end.
func stream(w http.ResponseWriter, produce func(put func(any) error) error) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &patient{ResponseController: http.NewResponseController(w), ResponseWriter: w}
	enc := json.NewEncoder(out)
	put := func(v any) error {
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return enc.Encode(Item{Item: raw})
	}
	defer out.SetWriteDeadline(time.Time{})
	switch err := produce(put); {
	case err != nil && !out.begun:
		fail(w, err)
	case err != nil:
		e, ok := errors.AsType[*Error](err)
		if !ok {
			e = &Error{Code: Internal, Message: err.Error()}
		}
		enc.Encode(Item{Error: e}) // as far as there is somebody to hear it
	}
}

const writeTimeout = 30 * time.Second

// patient writes an answer as long as the client reads it.
type patient struct {
	*http.ResponseController
	http.ResponseWriter
	begun bool
}

func (p *patient) Write(b []byte) (int, error) {
	p.begun = true
	p.SetWriteDeadline(time.Now().Add(writeTimeout)) // none where it cannot be set
	return p.ResponseWriter.Write(b)
}
