package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// stream answers with the values that produce hands to put, a line each, and
// then with its error if there is one. put fails when the client is gone, or
// has not read for writeTimeout.
func stream(w http.ResponseWriter, produce func(put func(any) error) error) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	begun := false
	put := func(v any) error {
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		begun = true
		control.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err := enc.Encode(Item{Item: raw}); err != nil {
			return err
		}
		return control.Flush()
	}
	switch err := produce(put); {
	case err != nil && !begun:
		fail(w, err)
	case err != nil:
		e, ok := errors.AsType[*Error](err)
		if !ok {
			e = &Error{Internal, err.Error()}
		}
		enc.Encode(Item{Error: e}) // as far as there is somebody to hear it
	}
}

const writeTimeout = 30 * time.Second
