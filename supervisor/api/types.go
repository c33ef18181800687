package api

import (
	"encoding/json"
	"time"

	"warder/supervisor/verify"
)

// VM is a virtual machine that a process hosts.
type VM struct {
	Name    string    `json:"name"`
	PID     int       `json:"pid"`    // of the process
	CPUs    int       `json:"cpus"`   // virtual ones
	Memory  uint64    `json:"memory"` // bytes of RAM
	Kernel  string    `json:"kernel,omitempty"`
	Started time.Time `json:"started"`
}

// Item is a line of a stream: a value, or the error that ended the stream.
type Item struct {
	Item  json.RawMessage `json:"item,omitempty"`
	Error *Error          `json:"error,omitempty"`
}

// A Code says why something failed, for programs.
type Code string

// The codes of an [Error].
const (
	BadRequest  Code = "bad-request"
	Forbidden   Code = "forbidden"
	NotFound    Code = "not-found"   // no such VM, or nothing of that name in it
	Unavailable Code = "unavailable" // this VM cannot answer that: the text says why
	Internal    Code = "internal"
	// Refused says that the machine does not have what a service needs.
	Refused    Code = "refused"
	NoServices Code = "no-services" // the process hosts none
	Busy       Code = "busy"        // too many connections at once
	// NoCommand and NotExecutable are of a command in a guest that there is not, or
	// that cannot be run.
	NoCommand     Code = "no-command"
	NotExecutable Code = "not-executable"
)

// Error is a failure as the other process told it.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	// Refusal is which resource was refused, with the numbers.
	Refusal *verify.Refusal `json:"refusal,omitempty"`
}

func (e *Error) Error() string { return e.Message }

// Unwrap gives the refusal, if it is one.
func (e *Error) Unwrap() error {
	if e.Refusal == nil {
		return nil
	}
	return e.Refusal
}

var statuses = map[Code]int{BadRequest: 400, Forbidden: 403, NotFound: 404, Unavailable: 409, Internal: 500, Refused: 409, NoServices: 404, Busy: 503, NoCommand: 404, NotExecutable: 409}
