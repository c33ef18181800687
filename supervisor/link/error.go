package link

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"warder/guestinit/proto"
	"warder/supervisor/services"
	"warder/supervisor/verify"
)

// ErrGone is the error of a call whose connection ended.
var ErrGone = errors.New("the supervisor is gone")

// The codes of errors that are more than a text, beside proto's own.
const (
	codeUnknown proto.Code = "unknown-service"
	codeState   proto.Code = "state"
	codeClosed  proto.Code = "closed"
	codeRefused proto.Code = "refused" // with a verify.Refusal as detail
	codeDenied  proto.Code = "denied"  // with a verify.Denial
)

var kinds = map[proto.Code]error{codeUnknown: services.ErrUnknown, codeState: services.ErrState, codeClosed: services.ErrClosed}

// A kindError says what the peer said, and is what it was there.
type kindError struct {
	text string
	kind error
}

func (e *kindError) Error() string { return e.text }
func (e *kindError) Unwrap() error { return e.kind }

// encode puts an error into what crosses the wire.
func encode(err error) *proto.Error {
	if e, ok := errors.AsType[*proto.Error](err); ok {
		return &proto.Error{Code: e.Code, Message: err.Error(), Detail: e.Detail}
	}
	out := &proto.Error{Code: proto.CodeInternal, Message: err.Error()}
	var detail any
	if r, ok := errors.AsType[*verify.Refusal](err); ok {
		out.Code, detail = codeRefused, r
	} else if d, ok := errors.AsType[*verify.Denial](err); ok {
		out.Code, detail = codeDenied, d
	}
	for code, kind := range kinds {
		if errors.Is(err, kind) {
			out.Code = code
		}
	}
	if detail != nil {
		b, _ := json.Marshal(detail) // of strings and numbers
		out.Detail = string(b)
	}
	return out
}

// decode is the other way round. A guest's own errors stay proto's.
func decode(err error) error {
	if errors.Is(err, proto.ErrClosed) {
		return fmt.Errorf("%w (%v)", ErrGone, err)
	}
	e, ok := errors.AsType[*proto.Error](err)
	if !ok {
		return err
	}
	switch e.Code {
	case codeRefused:
		return detailed[verify.Refusal](e)
	case codeDenied:
		return detailed[verify.Denial](e)
	case proto.CodeNotFound, proto.CodeNotExecutable, proto.CodeBadRequest:
		return e
	}
	return &kindError{Clean(e.Message), kinds[e.Code]}
}

// detailed gives an error with its numbers, if the peer gave them.
func detailed[T any, P interface {
	*T
	error
}](e *proto.Error) error {
	p := P(new(T))
	if json.Unmarshal([]byte(e.Detail), p) != nil {
		return &kindError{text: Clean(e.Message)}
	}
	return p
}

// maxText bounds what is said of a service, in bytes.
const maxText = 4 << 10

// Clean takes out of a peer's text what a terminal would obey, but for the ends of
// lines, and cuts it to length.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r != unicode.ReplacementChar && unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s[:min(len(s), maxText)])
}
